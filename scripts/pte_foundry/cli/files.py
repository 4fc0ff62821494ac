"""The argument that ``inspect`` and ``run`` share: a file with a program."""

import argparse
from pathlib import Path

from pte_foundry.errors import InputError


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the argument."""
    parser.add_argument("model", type=Path, metavar="FILE", help="an .mlpackage, or a .pte")


def existing(path: Path) -> Path:
    """Returns a path. Raises InputError if nothing is there."""
    if not path.exists():
        raise InputError(f"{path}: there is no such file")
    return path
