"""The command-line options by which a stage is handed a model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from scripts import cli

if TYPE_CHECKING:
    from scripts.model import ModelModule


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the options that :func:`model_of` reads."""
    parser.add_argument("--module", type=Path, required=True, help="the model's Python file")
    parser.add_argument("--weights", type=Path, help="its weights, already checked")
    parser.add_argument(
        "--data", type=cli.assignment, nargs="*", default=[], metavar="NAME=PATH", help="data files"
    )
    parser.add_argument("--slice", type=json.loads, required=True, help="this step's configuration")


def model_of(arguments: argparse.Namespace) -> ModelModule:
    """The model that the options name, with the options of its configuration."""
    from scripts.model import ModelModule

    return ModelModule.load(
        arguments.module, arguments.weights, dict(arguments.data), arguments.slice["options"]
    )
