"""The checked configuration and its builds."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pte_foundry.config import yamlfiles
from pte_foundry.config.check_builds import check_builds, combinations
from pte_foundry.config.check_models import check_models
from pte_foundry.config.check_parts import check_recipes, check_targets
from pte_foundry.config.defaults import default_gates
from pte_foundry.config.document import Interpreter
from pte_foundry.config.gates import Gate, merged_gates
from pte_foundry.config.interface import Interface, read_interface
from pte_foundry.config.models import Model
from pte_foundry.config.parse import Parsed, RecipeModel, parse
from pte_foundry.config.targets import Target
from pte_foundry.findings import Finding, raise_for
from pte_foundry.quantize import schemes


@dataclass(frozen=True)
class Build:
    """One artifact to make: names of a model, a recipe and a target, and the gates it must meet."""

    model: str
    recipe: str
    target: str
    gates: Mapping[str, Gate]


@dataclass(frozen=True)
class Config:
    """A configuration without errors."""

    models: Mapping[str, Model]
    recipes: Mapping[str, RecipeModel]
    targets: Mapping[str, Target]
    devices: Mapping[str, Interpreter]
    builds: tuple[Build, ...]
    divergence: bool
    root: Path
    located: Callable[[Finding], Finding] = field(repr=False, compare=False)

    @classmethod
    def parse(cls, data: Any, files: Iterable[Path], root: Path) -> "Config":
        """Check a configuration that Snakemake has merged.

        ``files`` are the config files it was merged from, in order: findings name them. ``root``
        is the project's folder, which paths in the config are relative to. Raises ``ConfigError``
        with every finding.
        """
        read = [yamlfiles.read(Path(file), Path(root)) for file in files]
        parsed, findings = check(data, read, Path(root))
        raise_for(findings)
        builds = tuple(
            Build(one.model, one.recipe, one.target, _gates(parsed, one))
            for index, entry in parsed.builds.items()
            for one in combinations(parsed, index, entry)
        )
        devices = dict(parsed.devices)
        located = partial(yamlfiles.located, data=data, files=read)
        return cls(
            parsed.models,
            parsed.recipes,
            parsed.targets,
            devices,
            builds,
            parsed.divergence,
            Path(root),
            located,
        )

    def check_structure(self, modules: Mapping[str, schemes.Modules]) -> None:
        """Check the recipes against the models whose tables of modules are given, by model.

        Raises ``ConfigError`` with every finding.
        """
        pairs = dict.fromkeys((build.model, build.recipe) for build in self.builds)
        raise_for(
            self.located(finding)
            for model, recipe in pairs
            if model in modules
            for finding in schemes.load(self.recipes[recipe].scheme).findings(
                recipe, self.recipe(recipe), model, modules[model]
            )
        )

    @cached_property
    def built_models(self) -> list[str]:
        """The models that builds need, sorted."""
        return sorted({build.model for build in self.builds})

    @cached_property
    def by_names(self) -> dict[tuple[str, str, str], Build]:
        return {(build.model, build.recipe, build.target): build for build in self.builds}

    @cached_property
    def _interfaces(self) -> dict[str, Interface]:
        return {name: read_interface(self.root / m.module) for name, m in self.models.items()}

    def options(self, model: str, functions: Sequence[str]) -> dict[str, Any]:
        """Returns the options of a model that any of these functions of its module takes."""
        taken = self._interfaces[model].options_of(functions)
        options = self.models[model].options
        return {key: value for key, value in options.items() if taken is None or key in taken}

    def recipe(self, name: str) -> dict[str, Any]:
        """Returns a recipe as its scheme reads it: plain data without gates."""
        return self.recipes[name].slice()


def check(
    data: Any, files: list[yamlfiles.ConfigFile], root: Path, platform: str = sys.platform
) -> tuple[Parsed, list[Finding]]:
    """Run every check; the findings name their file and line, in the order of the sections."""
    parsed = parse(data)
    findings = [finding for file in files for finding in file.findings]
    findings += parsed.findings
    findings += check_models(parsed, root)
    findings += check_recipes(parsed)
    findings += check_targets(parsed, platform)
    findings += check_builds(parsed)
    return parsed, [yamlfiles.located(finding, data, files) for finding in findings]


def load(files: Iterable[Path], root: Path) -> Config:
    """Read, merge and check config files, as Snakemake would with ``--configfile``."""
    paths = list(files)
    data = yamlfiles.merged(yamlfiles.read(Path(path), Path(root)).data for path in paths)
    return Config.parse(data, paths, root)


def _gates(parsed: Parsed, one: Any) -> dict[str, Gate]:
    recipe, target = parsed.recipes[one.recipe], parsed.targets[one.target]
    own = parsed.builds[one.entry].gates
    return merged_gates(default_gates(recipe, target), parsed.gates, recipe.gates, own)
