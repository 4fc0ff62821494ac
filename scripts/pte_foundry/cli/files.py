"""Files that several commands take: a program with limits, and the summary of a build."""

import argparse
from pathlib import Path
from typing import Any

from pte_foundry.cli.limits import add_limits
from pte_foundry.errors import DamagedError, InputError
from pte_foundry.files import read_json

SUMMARY = Path("results/summary.json")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="an .mlpackage, or a .pte")
    add_limits(parser)


def existing(path: Path) -> Path:
    """Returns a path. Raises InputError if nothing is there."""
    if not path.exists():
        raise InputError(f"{path}: there is no such file")
    return path


def read_summary(path: Path) -> Any:
    """Returns a summary. Raises InputError if the file is none, or damaged."""
    try:
        summary = read_json(path)
    except DamagedError:
        summary = None
    if not isinstance(summary, dict) or not {"builds", "totals"} <= summary.keys():
        raise InputError(
            f"{path}: not a summary, or a damaged one. Expected {SUMMARY} as a build writes it."
        )
    return summary
