"""The command-line options by which a stage is handed a model."""

import argparse
import json
from pathlib import Path

from scripts import cli
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
    return ModelModule.load(
        arguments.module, arguments.weights, dict(arguments.data), arguments.slice["options"]
    )
