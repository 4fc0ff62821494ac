"""What the rules ask of every job: the code of its step, and what that reads of the configuration.

Thousands of jobs ask, and few answers differ, so each is found once (tests/unit/test_steps.py).
"""

import hashlib
import sys
from functools import cache
from pathlib import Path
from typing import Any

from scripts.config.config import Config
from scripts.config.slices import slice_json
from scripts.errors import DamagedError
from scripts.files import read_json
from scripts.sources import closure, digest


def lock_file(root: Path) -> Path:
    """The lock file of the environment on this system."""
    return root / f"envs/requirements{'-macos' if sys.platform == 'darwin' else ''}.lock"


class Steps:
    """The steps of a project with one configuration."""

    def __init__(self, config: Config) -> None:
        self.config, self.root = config, config.root
        self.code = cache(self._code)
        self.slice = cache(self._slice)
        self.activation_key = cache(config.activation_key)
        self.edge_key = cache(config.edge_key)
        self.lowering_key = cache(config.lowering_key)

    def _code(self, step: str, model: str | None = None) -> str:
        """The digest of a step's code and, if it runs it, of a model's."""
        files = closure(step, self.root)
        files += [self.root / self.config.models[model].module] if model else []
        return digest(files, lock_file(self.root), self.root)

    def _slice(self, stage: str, **names: str) -> str:
        """What a stage reads of the configuration, as canonical JSON (see ``Config.slice``)."""
        return slice_json(self.config.slice(stage, **names))

    def structure_digest(self, model: str) -> str:
        """Tells a table of modules that is current from one of an earlier state of the model."""
        parts = [
            self.code("export", model),
            self.slice("export", model=model),
            self.slice("sources", model=model),
        ]
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    def known_modules(self, results: Path) -> dict[str, list[Any]]:
        """The tables of modules of the models that are built, as far as they are there and current.

        ``results`` is the folder of results; see ``Config.check_structure``.
        """
        known = {}
        for model in self.config.built_models:
            try:
                found = read_json(results / f"export/{model}.json")
            except DamagedError:
                continue  # missing, or the step that reads it will say so
            if found["digest"] == self.structure_digest(model):
                known[model] = found["modules"]
        return known
