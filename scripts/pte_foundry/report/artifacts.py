"""Prints what has become of artifacts that were asked for by path: size, verdict and path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pte_foundry.report import table, text
from pte_foundry.report.schema import SummaryRecord


@dataclass(frozen=True)
class Artifact:
    """An artifact that was asked for.

    Attributes:
        path: its path.
        size: its size in bytes.
        record: what its validation found; None: it is not validated.
        reason: why it is not.
    """

    path: str
    size: int
    record: SummaryRecord | None = None
    reason: str = ""


def render(artifacts: Sequence[Artifact], console: Console) -> None:
    """Prints one row for each artifact, and the gates that they miss.

    Args:
        artifacts: what was asked for.
        console: where to print.
    """
    grid = Table(box=None, pad_edge=False, header_style="bold", show_header=len(artifacts) > 1)
    grid.add_column("artifact", overflow="fold")
    for title in ("size", "SQNR dB"):
        grid.add_column(title, justify="right", no_wrap=True)
    grid.add_column("status", no_wrap=True)
    for one in artifacts:
        noise = text.decibel(one.record["metrics"]["sqnr_db"]) if one.record else text.MISSING
        if len(artifacts) == 1 and one.record:
            noise = f"{noise} dB"
        grid.add_row(Text(one.path), text.size(one.size), noise, _status(one))
    console.print(grid)
    for one in artifacts:
        for gate in one.record["gates"] if one.record else ():
            if not gate["passed"]:
                table.print_gate(console, one.record, gate)
    for one in artifacts:
        if one.reason:
            console.print(Text(f"{one.path} is not validated: {one.reason}"), soft_wrap=True)


def _status(one: Artifact) -> Text:
    if one.record is None:
        return Text("not validated", style="yellow")
    return table.status_of(one.record)
