"""The table of builds that ends a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pte_foundry.report import text

_STYLES = {"pass": "green", "warn": "yellow", "FAIL": "bold red"}
# What a narrow terminal leaves out, with the width from which it is shown.
_COLUMNS = (
    ("build", "left", 0),
    ("size", "right", 0),
    ("SQNR dB", "right", 0),
    ("worst dB", "right", 72),
    ("agreement", "right", 60),
    ("task", "left", 120),
    ("status", "left", 0),
)


def render(summary: Mapping[str, Any], console: Console, page: Path | None = None) -> None:
    """Print the summary (as ``pte_foundry.steps.summary`` writes it) as a table with its footnotes."""
    builds = summary["builds"]
    shown = [column for column in _COLUMNS if console.width >= column[2]]
    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    for title, justify, _ in shown:
        foldable = title in ("build", "task")
        table.add_column(title, justify=justify, overflow="fold", no_wrap=not foldable)
    for build in builds:
        cells = _cells(build)
        table.add_row(*(cells[title] for title, _, _ in shown))
    console.print(table)
    console.print()
    for build in builds:
        for gate in build["gates"]:
            if not gate["passed"]:
                _print_failure(console, build, gate)
    console.print(_totals(summary["totals"]))
    for line in text.engines(builds):
        console.print(Text(line, style="dim"), soft_wrap=True)
    if page:
        console.print(Text(f"page: {page}"), soft_wrap=True)


def _cells(build: Mapping[str, Any]) -> dict[str, Text]:
    metrics = build["metrics"]
    status = _status(build)
    return {
        "build": Text(text.build_name(build["build"])),
        "size": Text(text.size(build["bytes"])),
        "SQNR dB": Text(text.decibel(metrics.get("sqnr_db"))),
        "worst dB": Text(text.decibel((metrics.get("worst") or {}).get("sqnr_db"))),
        "agreement": Text(text.percent(metrics.get("top1_agreement"))),
        "task": Text(text.task(metrics)),
        "status": Text(status, style=_STYLES[status]),
    }


def _status(build: Mapping[str, Any]) -> str:
    if build["status"] == "fail":
        return "FAIL"
    return "pass" if all(gate["passed"] for gate in build["gates"]) else "warn"


def _print_failure(console: Console, build: Mapping[str, Any], gate: Mapping[str, Any]) -> None:
    warns = gate.get("on_fail") == "warn"
    line = Text("warn " if warns else "FAIL ", style=_STYLES["warn" if warns else "FAIL"])
    line.append(f"{text.build_name(build['build'])}: {text.failure(gate)}", style="default")
    if len(build["devices"]) > 1:
        line.append(f" (on {gate['device']})", style="dim")
    console.print(line, soft_wrap=True)


def _totals(totals: Mapping[str, int]) -> Text:
    plural = "" if totals["builds"] == 1 else "s"
    parts = [f"{totals['builds']} build{plural}", f"{totals['passed']} passed"]
    parts += [f"{totals['failed']} failed"] if totals["failed"] else []
    parts += [f"{totals['warned']} with warnings"] if totals["warned"] else []
    return Text(", ".join([*parts, text.size(totals["bytes"])]), style="bold")
