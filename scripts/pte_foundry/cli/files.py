"""Files that several commands take: a program with limits, and the summary of a build."""

import argparse
import sys
from pathlib import Path
from typing import Any

from pte_foundry.cli.console import printable
from pte_foundry.cli.limits import add_limits
from pte_foundry.errors import DamagedError, InputError
from pte_foundry.files import read_json
from pte_foundry.workflow.build_options import last_results

RESULTS = Path("results")
SUMMARY = RESULTS / "summary.json"


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="an .mlpackage, or a .pte")
    add_limits(parser)


def results_of_last_build() -> Path:
    """Returns the folder of results of the last build in this folder.

    Raises:
        InputError: it is in a storage, and no copy of it is here.
    """
    where = last_results()
    if "://" not in where:
        return Path(where)
    if not RESULTS.is_dir():
        command = f"aws s3 sync {where} {RESULTS}" if where.startswith("s3://") else "copy them"
        raise InputError(
            f"The results of the last build here are in a storage, {where}, and this command reads "
            f"files of this machine. Copy them ({command}), or name a copy of them."
        )
    note = f"This is the copy in {RESULTS}; the last build here wrote to {where}."
    print(printable(note), file=sys.stderr)
    return RESULTS


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
