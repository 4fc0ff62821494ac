"""``pte-foundry ops``: lists the supported Core ML operations by opset."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from typing import TYPE_CHECKING, Any

from pte_foundry.cli.console import cell, console, table

if TYPE_CHECKING:
    from rich.console import Console

DESCRIPTION = """\
Lists every operation that coremltools can write into a program, and whether
pte-foundry run supports it, for each opset (the minimum iOS of a program):

  ✓      supported
  ✓ new  supported, and defined for the first time or in a new way in this opset
  no     not supported; the reason is below the table
  –      not in this opset"""
EXAMPLES = """\
  pte-foundry ops | grep quantize
  pte-foundry ops --json | jq '.[] | select(.versions.iOS18 == "iOS18") | .op'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json",
        action="store_true",
        help="print op, family, and versions as JSON: by opset, the opset since which the "
        "definition applies, or why it is not supported",
    )


def run(arguments: argparse.Namespace) -> int:
    from pte_foundry.mil import coverage
    from pte_foundry.mil.registry import OPSETS

    logging.disable()  # coremltools warns of every library that it does not find
    rows = coverage.table()
    logging.disable(logging.NOTSET)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
    else:
        _print_table(console(), rows, list(OPSETS.values()))
    return 0


def _print_table(console: Console, rows: list[Any], opsets: list[str]) -> None:
    """Prints where each operation is supported, and the reasons where it is not."""
    shown = table("operation", "family", *opsets)
    reasons = {}
    for row in rows:
        cells = []
        for opset in opsets:
            version = row.versions.get(opset)
            if version in opsets:
                cells.append(cell("✓" if version != opset else "✓ new", "green"))
                continue
            cells.append(cell("–" if version is None else "no", "dim"))
            if version is not None:
                reasons[row.op, version] = None
        shown.add_row(cell(row.op), cell(row.family, "dim"), *cells)
    console.print(shown)
    for op, reason in reasons:
        console.print(cell(op).append(f": {reason}", "dim"), soft_wrap=True)
