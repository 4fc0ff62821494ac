"""``pte-foundry compare``: what differs between two builds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pte_foundry.cli.console import cell, console, table
from pte_foundry.cli.files import RESULTS, SUMMARY, read_summary, results_of_last_build
from pte_foundry.errors import InputError
from pte_foundry.files import read_json, replacing

DESCRIPTION = """\
Compares two builds of a project: sizes, metrics, verdicts, whether the bytes of
the artifacts are equal, and which inputs differ (from the manifests). Results
keep the summary and the manifest of the build before in results/previous."""
EXAMPLES = """\
  pte-foundry compare                              # with the build before
  pte-foundry compare release-1.4/results results
  pte-foundry compare old/summary.json results/summary.json --html changes.html
"""
EXIT_CODES = {
    0: "no build got worse",
    1: "a build that passed fails now or is gone, or a file is missing",
}

PREVIOUS = "previous"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    named = "a summary, or a folder with one"
    parser.add_argument(
        "old", type=Path, nargs="?", metavar="OLD", help=f"{named} ({RESULTS / PREVIOUS})"
    )
    parser.add_argument("new", type=Path, nargs="?", metavar="NEW", help=f"{named} ({RESULTS})")
    parser.add_argument("--all", action="store_true", help="print the builds that are the same too")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the comparison as a page")


def run(arguments: argparse.Namespace) -> int:
    from pte_foundry.report import comparison

    given = arguments.old, arguments.new
    results = None if all(given) else results_of_last_build()
    paths = given[0] or results / PREVIOUS, given[1] or results
    old, new = map(read, paths)
    changes = comparison.compare(old[0], new[0], old[1], new[1])
    shown = [change for change in changes if arguments.all or change.state != "same"]
    output = console()
    if shown:
        made = table(*comparison.HEAD)
        for change in shown:
            made.add_row(*map(cell, change.cells()))
        output.print(made)
    output.print(comparison.headline(changes))
    if arguments.html:
        from pte_foundry.report.run_page import render

        with replacing(arguments.html) as temporary:
            facts = {"old": str(paths[0]), "new": str(paths[1])}
            temporary.write_text(render(facts, changes), encoding="utf-8")
    return 1 if any(change.state in ("fails now", "gone") for change in changes) else 0


def read(path: Path) -> tuple[Any, Any]:
    """Returns a summary and the manifest beside it; None if there is no manifest.

    Args:
        path: a summary; a results folder, or a project with one.

    Raises:
        InputError: there is no summary, or it is none.
    """
    candidates = [path, path / SUMMARY.name, path / SUMMARY]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        hint = ""
        if path.name == PREVIOUS:
            hint = ": results have not changed since they were first built. Name two of them"
        raise InputError(f"{path}: no summary there{hint}.")
    beside = file.with_name("manifest.json")
    return read_summary(file), read_json(beside) if beside.is_file() else None
