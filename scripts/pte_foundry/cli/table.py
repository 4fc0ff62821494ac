"""``pte-foundry table``: prints the table of builds."""

import argparse
import json
from pathlib import Path

from pte_foundry.cli.console import console
from pte_foundry.cli.files import SUMMARY, read_summary, results_of_last_build
from pte_foundry.errors import InputError
from pte_foundry.report.table import render

DESCRIPTION = """\
Prints the builds of the last run: size in decimal units (1 kB = 1000 B), signal
to quantization noise ratio (SQNR) in dB against the fp32 model, over all
samples and of the worst one, share of samples whose top class agrees with fp32,
task metrics, and every gate that failed."""
EXAMPLES = """\
  pte-foundry table
  pte-foundry table elsewhere/results/summary.json
  pte-foundry table --json | jq '.builds[] | select(.status == "fail") | .build'
"""
EXIT_CODES = {0: "no build failed", 1: "a build failed, or there is no summary"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "summary",
        type=Path,
        nargs="?",
        metavar="SUMMARY",
        help=f"the summary of the builds ({SUMMARY}, or where the last build here put it)",
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(arguments: argparse.Namespace) -> int:
    path = arguments.summary or results_of_last_build() / SUMMARY.name
    if not path.is_file():
        raise InputError(
            f"{path}: no such file. Build first (make, or snakemake --cores all), or name the "
            "summary of another results folder."
        )
    summary = read_summary(path)
    if arguments.json:
        print(json.dumps(summary, indent=1, sort_keys=True))
    else:
        page = path.parent / "report" / "index.html"
        render(summary, console(), page if page.exists() else None)
    return 1 if summary["totals"]["failed"] else 0
