"""Prints the table of builds that ends a run."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pte_foundry.report import text
from pte_foundry.report.failures import failures
from pte_foundry.report.schema import DeviceGate, Summary, SummaryRecord, Totals

_STYLES = {"pass": "green", "warn": "yellow", "FAIL": "bold red"}
# Title, alignment, and the width of the terminal in characters from which a column is shown.
_COLUMNS = (
    ("build", "left", 0),
    ("size", "right", 0),
    ("SQNR dB", "right", 0),
    ("worst dB", "right", 72),
    ("agreement", "right", 60),
    ("task", "left", 120),
    ("status", "left", 0),
)
_STAGE_WIDTH = 72  # from which a failed build's status names the stage


def render(summary: Summary, console: Console, page: Path | None = None) -> None:
    """Prints one row for each build, then failures, missed gates, the totals and the engines.

    Args:
        summary: the summary of all builds.
        console: where to print; its width decides which columns are left out.
        page: the HTML report to refer to.
    """
    builds = summary["builds"]
    shown = [column for column in _COLUMNS if console.width >= column[2]]
    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    for title, justify, _ in shown:
        folds = title in ("build", "task")
        table.add_column(title, justify=justify, overflow="fold", no_wrap=not folds)
    for build in builds:
        cells = _cells(build, named=console.width >= _STAGE_WIDTH)
        table.add_row(*(cells[title] for title, _, _ in shown))
    console.print(table)
    console.print()
    for failure in failures(builds):
        print_failure(console, failure.line)
    for build in builds:
        for gate in build["gates"]:
            if not gate["passed"]:
                print_gate(console, build, gate)
    console.print(_totals(summary["totals"]))
    if issues := text.known_issues(builds):
        console.print(Text(issues, style="yellow"), soft_wrap=True)
    for line in [*text.engines(builds), *text.synthetic(builds)]:
        console.print(Text(line, style="dim"), soft_wrap=True)
    if page:
        console.print(Text(f"page: {page}"), soft_wrap=True)


def _cells(build: SummaryRecord, named: bool) -> dict[str, Text]:
    """The cells of a row; ``named``: with the stage that failed."""
    metrics = build["metrics"]
    shown = status_of(build)
    if named and (error := build.get("error")):
        shown.append(f" in {error['stage']}", style="default")
    return {
        "build": Text(text.build_name(build["build"])),
        "size": Text(text.size(build["bytes"])),
        "SQNR dB": Text(text.decibel(metrics["sqnr_db"])),
        "worst dB": Text(text.decibel(text.worst_sqnr_db(metrics))),
        "agreement": Text(text.percent(metrics.get("top1_agreement"))),
        "task": Text(text.task(metrics)),
        "status": shown,
    }


def status_of(build: SummaryRecord) -> Text:
    """Returns ``pass``, ``warn`` or ``FAIL``, with its colour."""
    status = _upper_if_failed(text.build_status(build))
    return Text(status, style=_STYLES[status])


def _upper_if_failed(status: str) -> str:
    return "FAIL" if status == "fail" else status


def print_failure(console: Console, line: str) -> None:
    """Prints a line about something that failed."""
    console.print(
        Text("FAIL ", style=_STYLES["FAIL"]).append(line, style="default"), soft_wrap=True
    )


def print_gate(console: Console, build: SummaryRecord, gate: DeviceGate) -> None:
    """Prints a line about a gate that is missed."""
    status = _upper_if_failed(text.gate_status(gate))
    line = Text(f"{status} ", style=_STYLES[status])
    line.append(
        f"{text.build_name(build['build'])}: {text.failure(gate, build['hazards'])}",
        style="default",
    )
    if len(build["devices"]) > 1:
        line.append(f" (on {gate['device']})", style="dim")
    console.print(line, soft_wrap=True)


def _totals(totals: Totals) -> Text:
    plural = "" if totals["builds"] == 1 else "s"
    parts = [f"{totals['builds']} build{plural}", f"{totals['passed']} passed"]
    parts += [f"{totals['failed']} failed"] if totals["failed"] else []
    parts += [f"{totals['warned']} with warnings"] if totals["warned"] else []
    return Text(", ".join([*parts, text.size(totals["bytes"])]), style="bold")
