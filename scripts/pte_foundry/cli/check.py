"""``pte-foundry check``: checks config files, and recipes against the models as far as known.

The exit code is 0, or 1 if something is wrong. With ``--structure`` it is 3 if nothing is wrong but
the structure of a model is not known yet: ``snakemake structure`` finds it.
"""

import argparse
from pathlib import Path

from pte_foundry.config.config import load
from pte_foundry.workflow.jobs import Jobs

UNKNOWN = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="later ones win")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the project's folder")
    parser.add_argument(
        "--structure", action="store_true", help=f"exit with {UNKNOWN} if a model is not known yet"
    )


def run(arguments: argparse.Namespace) -> int:
    root = arguments.root.resolve()
    config = load([file.resolve() for file in arguments.files], root)
    known = Jobs(config).known_modules(root / "results")
    config.check_structure(known)
    print(f"ok: {len(config.builds)} build{'s' * (len(config.builds) != 1)}")
    return UNKNOWN if arguments.structure and known.keys() != set(config.built_models) else 0
