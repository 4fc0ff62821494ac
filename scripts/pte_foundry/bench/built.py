"""Models as a build left them below its results folder: artifacts, samples, weights and data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pte_foundry.bench import CLONE

if TYPE_CHECKING:
    from pte_foundry.models.module import ModelModule

_MODULES = CLONE / "config" / "models"
# The target of the artifact to measure if a recipe has several: they differ little.
_TARGETS = ("ios18_fp32", "ios18", "ios17", "ios16")


def artifacts(results: Path, model: str) -> dict[str, Path]:
    """Returns one artifact for each built recipe of a model, by recipe."""
    found: dict[str, Path] = {}
    for folder in sorted((results / "pte" / model).glob("*/")):
        files = (folder / f"{target}.pte" for target in _TARGETS)
        if existing := [file for file in files if file.is_file()]:
            found[folder.name] = existing[0]
    return found


def reference(results: Path, model: str) -> Path:
    """Returns the file with a model's evaluation samples and fp32 outputs; it need not exist."""
    return results / "reference" / f"{model}.safetensors"


def load_module(results: Path, model: str) -> ModelModule:
    """Loads a model module with the weights and data that the build fetched."""
    from pte_foundry.models.module import ModelModule

    fetched = {
        folder.name: next(folder.iterdir()) for folder in (results / "fetch" / model).iterdir()
    }
    weights = fetched.pop("weights")
    return ModelModule.load(_MODULES / f"{model}.py", weights, fetched, {})
