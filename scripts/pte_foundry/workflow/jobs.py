"""What the rules need to know about a job: its code digest, its slice, its place in the results.

Thousands of jobs share few answers, so each is computed once.
"""

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from pte_foundry.canonical_json import canonical, digest
from pte_foundry.config.config import Config
from pte_foundry.errors import DamagedError
from pte_foundry.files import read_json
from pte_foundry.lock import lock_file
from pte_foundry.models import sources
from pte_foundry.models.imports import Imports, follow
from pte_foundry.quantize import schemes
from pte_foundry.slice_argument import encoded
from pte_foundry.workflow import slices
from pte_foundry.workflow.code import closure, command_of, contents
from pte_foundry.workflow.stages import STAGES


class Jobs:
    """The jobs of one configuration."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.code_contents: dict[str, dict[str, str]] = {}
        """What the digests stand for that :meth:`code` has returned."""
        self.code = cache(self._code)
        self.part = cache(self._part)
        self.slice = cache(self._slice)
        self.imports = cache(self._imports)
        self.imports_digest = cache(self._imports_digest)
        self._model_contents = cache(lambda model: self.imports(model).contents())
        self.activation_key = cache(self._activation_key)
        self.edge_key = cache(self._edge_key)
        self.lowering_key = cache(self._lowering_key)
        self.activations = cache(self._activations)
        self.edges = {self.edge_key(name): name for name in config.targets}
        self.lowered = {self.lowering_key(name): name for name in config.targets}

    def _code(self, stage: str, model: str | None = None, scheme: str | None = None) -> str:
        """Returns the digest of a stage's code and of the model and scheme that it runs.

        Args:
            stage: the stage, as in ``STAGES``.
            model: the model, for a stage that calls functions of its module.
            scheme: the recipe's scheme, for the stage that converts.
        """
        loaded = [schemes.name_of(scheme)] if scheme else []
        if model is not None and (origin := self.config.models[model].origin):
            loaded.append(sources.name_of(origin))
        files = closure(command_of(stage), *loaded)
        found = contents(files, lock_file())
        if model is not None:
            found |= self._model_contents(model)
        return self._digest_of(found)

    def _imports(self, model: str) -> Imports:
        """Returns what a model's module imports."""
        config = self.config
        declared = config.declared_imports(model)
        return follow(config.module_file(model), config.project(model), declared)

    def _imports_digest(self, model: str) -> str:
        """Returns the digest of a model's module and of what it imports."""
        return self._digest_of(self._model_contents(model))

    def _digest_of(self, found: dict[str, str]) -> str:
        made = digest(found)
        self.code_contents[made] = found
        return made

    def _part(self, stage: str, **names: str) -> dict[str, Any]:
        entry = STAGES[stage]
        part = dict(entry.slice(self.config, **names))
        if entry.functions:
            part["options"] = self.config.options(names["model"], entry.functions)
        return part

    def _slice(self, stage: str, **names: str) -> str:
        """Returns what a stage reads of the config as a command-line argument."""
        return encoded(self.part(stage, **names))

    def _activation_key(self, model: str, recipe: str) -> str:
        """Names the output of ``calibrate``: equal for recipes that differ in weight settings only.

        Raises ValueError if the recipe quantizes no activations.
        """
        entry = self.config.recipes[recipe]
        if not entry.calibrates:
            raise ValueError(f"recipe {recipe} quantizes no activations: it has no calibration")
        samples = entry.calibration_samples or "all"
        return slices.key(f"samples-{samples}", self.part("calibrate", model=model, recipe=recipe))

    def _edge_key(self, target: str) -> str:
        """Names an edge program after what of the target shapes it.

        Operators kept out of the delegate, and fixed shapes, shape it.
        """
        part = self.part("edge", target=target)
        readable = "fixed" if part.get("fixed_shapes") else "skip"
        return slices.key(readable, part) if any(part.values()) else "default"

    def _lowering_key(self, target: str) -> str:
        """Names what of a target shapes the Core ML program, e.g. ``ios18-float16-1a2b3c4d``."""
        entry = self.config.targets[target]
        readable = f"{entry.oldest_ios.lower()}-{entry.compute_precision}"
        return slices.key(readable, self.part("lower", target=target))

    def _activations(self, model: str) -> dict[str, str]:
        """Returns a recipe for each activation key of a model."""
        recipes = self.config.recipes.items()
        names = [name for name, recipe in recipes if recipe.calibrates]
        return {self.activation_key(model, name): name for name in names}

    def recipe_of(self, model: str, activation_key: str) -> str:
        """Returns a recipe with this activation key; any will do, their slices are equal."""
        return self.activations(model)[activation_key]

    def target_of(self, lowering_key: str) -> str:
        """Returns a target with this lowering key; any will do, their slices are equal."""
        return self.lowered[lowering_key]

    def edge_target_of(self, edge_key: str) -> str:
        """Returns a target with this edge key; any will do, their slices are equal."""
        return self.edges[edge_key]

    def structure_digest(self, model: str) -> str:
        """Returns a digest that tells a current table of modules from an outdated one."""
        sources = canonical(slices.sources(self.config, model))
        part = canonical(self.part("export", model=model))
        parts = [self.code("export", model), part, sources]
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    def known_inputs(self, results: Path) -> dict[str, list[Any]]:
        """Returns the current tables of inputs of the built models, by model.

        ``results`` is the folder of results; see ``Config.check_inputs``.
        """
        return self._known("inputs", results, self.config.built_models)

    def known_modules(
        self, results: Path, models: Iterable[str] | None = None
    ) -> dict[str, list[Any]]:
        """Returns the current tables of modules of models, by model.

        Args:
            results: the folder of results.
            models: names of models; None: those that are built.
        """
        return self._known(
            "modules", results, self.config.built_models if models is None else models
        )

    def _known(self, table: str, results: Path, models: Iterable[str]) -> dict[str, list[Any]]:
        known = {}
        for model in models:
            with suppress(DamagedError):  # missing, or the step that reads it will report it
                found = read_json(results / f"export/{model}.json")
                if found["digest"] == self.structure_digest(model):
                    known[model] = found[table]
        return known
