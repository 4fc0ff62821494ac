"""The command-line options by which a stage is handed a model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from scripts import cli
from scripts.files import check

if TYPE_CHECKING:
    from scripts.model import ModelModule


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the options that :func:`model_of` reads."""
    parser.add_argument("--module", type=Path, required=True, help="the model's Python file")
    parser.add_argument("--weights", type=Path, help="its weights, already checked")
    parser.add_argument(
        "--data", type=cli.pair, nargs="*", default=[], metavar="NAME=PATH", help="data files"
    )
    parser.add_argument(
        "--sha256",
        type=cli.pair,
        nargs="*",
        default=[],
        metavar="NAME=DIGEST",
        help="of the data files by name, and of `weights`",
    )
    parser.add_argument("--slice", type=json.loads, required=True, help="this step's configuration")


def model_of(arguments: argparse.Namespace) -> ModelModule:
    """The model that the options name, with the options of its configuration.

    Raises DamagedError if its weights or data are no longer what they were when they were fetched.
    """
    from scripts.model import ModelModule

    data = {name: Path(path) for name, path in arguments.data}
    weights = arguments.weights
    pinned = dict(arguments.sha256)
    for name, path in data.items():
        check(path, pinned[name])
    if weights and "weights" in pinned:
        check(weights, pinned["weights"])
    elif weights:
        from scripts.tensors import load_tensors

        load_tensors(weights)  # trained here: the file has its own checksum
    return ModelModule.load(arguments.module, weights, data, arguments.slice["options"])
