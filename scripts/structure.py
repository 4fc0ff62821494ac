"""Checks a configuration and, as far as they are known, the structures of its models against it.

The exit code is 0, or 1 if something is wrong, or 3 if there is nothing wrong, but the structure of
a model is not known yet: `snakemake structure` finds it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scripts.config.config import load
from scripts.errors import FoundryError
from scripts.steps import Steps

UNKNOWN = 3


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="later ones win")
    arguments = parser.parse_args(argv)
    here = Path.cwd()
    try:
        config = load([file.resolve() for file in arguments.files], here)
        known = Steps(config).known_modules(here / "results")
        config.check_structure(known)
    except FoundryError as error:
        print(error)
        return 1
    print(f"ok: {len(config.builds)} build{'s' * (len(config.builds) != 1)}")
    return 0 if known.keys() == set(config.built_models) else UNKNOWN


if __name__ == "__main__":
    sys.exit(main())
