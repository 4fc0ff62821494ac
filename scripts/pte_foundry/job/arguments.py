"""Command-line options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pte_foundry.errors import DamagedError
from pte_foundry.files import check, read_json
from pte_foundry.slice_argument import decoded

if TYPE_CHECKING:
    from pte_foundry.models.module import ModelModule


def add_slice(parser: argparse.ArgumentParser) -> None:
    """Adds ``--slice``, the part of the config that a stage reads."""
    parser.add_argument(
        "--slice", type=slice_argument, required=True, help="this stage's part of the config"
    )


def slice_argument(text: str) -> Any:
    """Decodes a slice. Raises ``argparse.ArgumentTypeError`` if it is not one."""
    try:
        return decoded(text)
    except DamagedError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"not a slice of the config, which must be JSON: {error}"
        ) from error


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the options that :func:`model_of` reads."""
    parser.add_argument("--model", type=Path, required=True, help="results/model/<model>.json")
    add_slice(parser)


def model_of(arguments: argparse.Namespace, *, trained: bool = True) -> ModelModule:
    """Loads the model that ``--model`` describes, with the options of its slice.

    Args:
        arguments: as parsed with the options of :func:`add_model`.
        trained: load its weights; false while ``train()`` is about to make them.

    Raises DamagedError if its weights or data have changed since they were fetched.
    """
    from pte_foundry.models.module import ModelModule

    entry = read_json(arguments.model)
    pins = entry["sha256"]
    data = {name: Path(path) for name, path in entry["data"].items()}
    weights = Path(entry["weights"]) if trained else None
    for name, path in data.items():
        check(path, pins[name])
    if weights and "weights" in pins:
        check(weights, pins["weights"])
    elif weights:
        from pte_foundry.models.tensors import load_tensors

        load_tensors(weights)  # trained here: the file has its own checksum
    return ModelModule.load(Path(entry["module"]), weights, data, arguments.slice["options"])
