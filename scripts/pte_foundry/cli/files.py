"""The arguments that ``inspect`` and ``run`` share: a file with a program, and limits."""

import argparse
from pathlib import Path

from pte_foundry.cli.limits import add_limits
from pte_foundry.errors import InputError


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="an .mlpackage, or a .pte")
    add_limits(parser)


def existing(path: Path) -> Path:
    """Returns a path. Raises InputError if nothing is there."""
    if not path.exists():
        raise InputError(f"{path}: there is no such file")
    return path
