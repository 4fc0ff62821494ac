"""Command-line options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pte_foundry.errors import DamagedError, ModelError
from pte_foundry.files import base_of, check, read_json
from pte_foundry.models.checksums import check_tensors
from pte_foundry.models.imports import Imports, follow, project_of
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
    parser.add_argument("--module", type=Path, required=True, help="the model's Python file")
    add_slice(parser)


def model_of(arguments: argparse.Namespace, *, trained: bool = True) -> ModelModule:
    """Loads the model that ``--model`` describes, with the options of its slice.

    Args:
        arguments: as parsed with the options of :func:`add_model`.
        trained: load its weights; false while ``train()`` is about to make them.

    Raises:
        DamagedError: its weights or data have changed since they were fetched.
        ModelError: its module, or what that imports, has changed since the build was planned.
    """
    from pte_foundry.models.module import ModelModule

    entry = read_json(arguments.model)
    root = project_of(arguments.module, entry["module"]) if entry["module"] else None
    imports = follow(arguments.module, root, entry["declared_imports"])
    check_imports(imports, entry["imports"])
    pins = entry["sha256"]
    base = base_of(arguments.model, f"results/model/{arguments.model.name}")
    data = {name: base / path for name, path in entry["data"].items()}
    weights = base / entry["weights"] if trained else None
    for name, path in data.items():
        if name in pins:
            check(path, pins[name])
    if weights and "weights" in pins:
        check(weights, pins["weights"])
    elif weights and weights.suffix == ".safetensors" and entry.get("seed") is None:
        check_tensors(weights)  # trained here: the file has its own checksum
    options = arguments.slice["options"]
    return ModelModule.load(
        arguments.module,
        weights,
        data,
        options,
        root,
        imports,
        entry.get("seed"),
        entry.get("origin"),
        entry.get("enumerated_shapes"),
    )


def check_imports(found: Imports, planned: Mapping[str, str]) -> None:
    """Compares what a model imports now with what it imported when the build was planned.

    Results are recorded as those of the code that was planned, so a step must not run other code.

    Raises:
        ModelError: naming what differs.
    """
    now = found.contents()
    changed = sorted(n for n in now.keys() | planned.keys() if now.get(n) != planned.get(n))
    if changed:
        more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
        raise ModelError(
            f"{', '.join(changed[:4])}{more}: changed since this build was planned. Run it again: "
            "it then plans and builds with the new code."
        )
