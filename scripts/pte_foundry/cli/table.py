"""``pte-foundry table``: prints the table of builds; its exit code is 1 if any build failed."""

import argparse
import json
from pathlib import Path

from pte_foundry.cli.console import console
from pte_foundry.files import read_json
from pte_foundry.report.table import render


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "summary",
        type=Path,
        nargs="?",
        default=Path("results/summary.json"),
        help="the summary to print (results/summary.json)",
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(arguments: argparse.Namespace) -> int:
    summary = read_json(arguments.summary)
    if arguments.json:
        print(json.dumps(summary, indent=1, sort_keys=True))
    else:
        page = arguments.summary.parent / "report" / "index.html"
        render(summary, console(), page if page.exists() else None)
    return 1 if summary["totals"]["failed"] else 0
