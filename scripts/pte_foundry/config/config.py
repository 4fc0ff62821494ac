"""The checked configuration and its builds."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pte_foundry.config.base import Strict
from pte_foundry.config.check_builds import Combination, check_builds, every_combination
from pte_foundry.config.check_gates import check_gates
from pte_foundry.config.check_models import (
    check_models,
    declared_imports,
    files_of,
    folder_of_source,
    module_of,
    source_key,
)
from pte_foundry.config.check_names import check_names
from pte_foundry.config.check_shapes import check_shapes
from pte_foundry.config.check_targets import check_targets
from pte_foundry.config.defaults import default_gates
from pte_foundry.config.gates import Gate, merged_gates
from pte_foundry.config.interface import Interface, interface_of
from pte_foundry.config.layers import Layers, clone_of, layered
from pte_foundry.config.models import Model
from pte_foundry.config.parse import Parsed, parse
from pte_foundry.config.recipes.base import BaseRecipe
from pte_foundry.config.sources import Source
from pte_foundry.config.targets import Target
from pte_foundry.config.yamlfiles import merged, read
from pte_foundry.findings import Finding, raise_for
from pte_foundry.lowering.enumerated_shapes import enumeration_findings
from pte_foundry.quantize import schemes


@dataclass(frozen=True)
class Build:
    """One artifact: the names of its model, recipe and target, and the gates it must meet.

    ``default_gates`` are those that it would have to meet if the config set none.
    """

    model: str
    recipe: str
    target: str
    gates: Mapping[str, Gate]
    default_gates: Mapping[str, Gate]


@dataclass(frozen=True)
class Config:
    """A configuration without errors."""

    models: Mapping[str, Model]
    recipes: Mapping[str, BaseRecipe]
    targets: Mapping[str, Target]
    devices: Mapping[str, Strict]
    builds: tuple[Build, ...]
    divergence: bool
    layers: Layers = field(repr=False, compare=False)
    parsed: Parsed = field(repr=False, compare=False)

    @classmethod
    def parse(
        cls,
        data: Any,
        files: Iterable[Path],
        root: Path,
        default: Callable[[], Path] | None = None,
        others: Sequence[Path] = (),
    ) -> "Config":
        """Check a configuration that Snakemake has merged.

        Args:
            data: the merged configuration, without what it extends.
            files: the config files it was merged from, in order; findings name them.
            root: the clone.
            default: returns the path of the default config; None: it is that of the clone.
            others: folders that paths are relative to which are in none of the files.

        Raises:
            ConfigError: with every finding.
        """
        layers = layered(data, files, Path(root), default, others)
        parsed, findings = check(layers)
        raise_for(findings)
        builds = tuple(
            Build(one.model, one.recipe, one.target, *_gates(parsed, one))
            for one in every_combination(parsed)
        )
        document = parsed.document
        return cls(
            document.models,
            document.recipes,
            document.targets,
            document.devices,
            builds,
            document.divergence,
            layers,
            parsed,
        )

    def check_models(self, models: Iterable[str]) -> None:
        """Check models that are not built: their files, packages and options.

        Raises:
            ConfigError: with every finding.
        """
        found = check_models(self.parsed, self.layers, set(models) - {*self.built_models})
        self._raise_for(found)

    def check_structure(
        self,
        modules: Mapping[str, schemes.Modules],
        pairs: Iterable[tuple[str, str]] | None = None,
    ) -> None:
        """Check the recipes against the models, as far as their modules are known.

        A name or pattern of a module must occur in at least one of the models that are built with
        the recipe.

        Args:
            modules: tables of modules, by model; other models are not checked.
            pairs: names of models and recipes; None: those of the builds.

        Raises:
            ConfigError: with every finding.
        """
        if pairs is None:
            pairs = dict.fromkeys((build.model, build.recipe) for build in self.builds)
        pairs = list(pairs)
        found = [
            finding
            for model, recipe in pairs
            if model in modules
            for finding in self.recipes[recipe].structure_findings(recipe, model, modules[model])
        ]
        for recipe in dict.fromkeys(recipe for _, recipe in pairs):
            models = {*self.models_of(recipe), *(m for m, asked in pairs if asked == recipe)}
            if all(model in modules for model in models):
                tables = {model: modules[model] for model in sorted(models)}
                found += self.recipes[recipe].unmatched_findings(recipe, tables)
        self._raise_for(found)

    def _raise_for(self, findings: Iterable[Finding]) -> None:
        raise_for(map(self.layers.located, self.parsed.sweeps.placed(findings)))

    def models_of(self, recipe: str) -> list[str]:
        """Return the models that are built with a recipe, sorted."""
        return sorted({build.model for build in self.builds if build.recipe == recipe})

    def check_inputs(self, inputs: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Check the enumerated shapes of the models that are built against their inputs.

        Args:
            inputs: tables of inputs, by model; other models are not checked.

        Raises:
            ConfigError: with every finding.
        """
        findings: list[Finding] = []
        for model in self.built_models:
            path = ("models", model, "enumerated_shapes")
            given = self.models[model].enumerated_shapes
            if given and model in inputs:
                findings += enumeration_findings(path, given, inputs[model], model)
        self._raise_for(findings)

    @cached_property
    def built_models(self) -> list[str]:
        """The models that have builds, sorted."""
        return sorted({build.model for build in self.builds})

    def has_tokenizer(self, model: str) -> bool:
        """Whether a tokenizer comes with a model: with the weights of a language model."""
        entry = self.models[model]
        return entry.origin == "decoder" and entry.weights.kind != "random"

    @cached_property
    def by_names(self) -> dict[tuple[str, str, str], Build]:
        """The builds by the names of model, recipe and target."""
        return {(build.model, build.recipe, build.target): build for build in self.builds}

    @cached_property
    def matrix(self) -> dict[str, dict[str, list[str]]]:
        """The targets of the builds, by model and recipe."""
        found: dict[str, dict[str, list[str]]] = {}
        for build in self.builds:
            found.setdefault(build.model, {}).setdefault(build.recipe, []).append(build.target)
        return found

    def module_file(self, model: str) -> Path:
        """Return the file of a model's module."""
        return self._modules[model][0]

    def project(self, model: str) -> Path:
        """Return the project's folder of a model, in which its module finds modules."""
        return self._modules[model][1]

    @cached_property
    def _modules(self) -> dict[str, tuple[Path, Path]]:
        return {name: module_of(self.layers, name, model) for name, model in self.models.items()}

    def source(self, model: str, name: str) -> Source:
        """Return the source of a model's weights or of one of its data files."""
        return self.models[model].source(name)

    def source_folder(self, model: str, name: str) -> Path:
        """Return the folder that the path of a source is relative to; see :meth:`source`."""
        key = source_key(model, name, self.models[model])
        return folder_of_source(self.layers, key, self.source(model, name))

    def declared_imports(self, model: str) -> list[str] | None:
        """Return the model's ``imports``, with paths relative to its project's folder."""
        return declared_imports(self.layers, model, self.models[model])

    @cached_property
    def _interface(self) -> Callable[[str], Interface]:
        return cache(lambda model: interface_of(files_of(self.layers, model, self.models[model])))

    def about(self, model: str) -> dict[str, str]:
        """Return the description and the licence of a model, if they are known."""
        entry = self.models[model]
        own = self._interface(model).description if entry.module else ""
        found = {"description": entry.description or own, "license": entry.license}
        return {key: value for key, value in found.items() if value}

    def options(self, model: str, functions: Sequence[str]) -> dict[str, Any]:
        """Return the options of a model that any of these functions of its module takes."""
        taken = self._interface(model).options_of(functions)
        options = self.models[model].options
        return {key: value for key, value in options.items() if taken is None or key in taken}

    def recipe(self, name: str) -> dict[str, Any]:
        """Return a recipe as its scheme's conversion reads it: plain data without gates."""
        return self.recipes[name].slice()


def check(layers: Layers, platform: str = sys.platform) -> tuple[Parsed, list[Finding]]:
    """Run every check; the findings have their file and line.

    Models without a build are checked by themselves only: their files and packages need not exist.

    Args:
        layers: the configuration.
        platform: a value of ``sys.platform``.
    """
    parsed = parse(layers.data)
    findings = [finding for file in layers.files for finding in file.findings]
    findings += [*layers.findings, *parsed.findings]
    findings += check_names(parsed)
    findings += check_models(parsed, layers)
    for name, recipe in parsed.document.recipes.items():
        findings += recipe.findings(("recipes", name))
    findings += check_targets(parsed, platform)
    findings += check_builds(parsed)
    findings += check_shapes(parsed)
    findings += check_gates(parsed, layers)
    return parsed, [layers.located(finding) for finding in parsed.sweeps.placed(findings)]


def load(files: Iterable[Path], root: Path) -> Config:
    """Read, merge and check config files as ``snakemake --configfile`` would.

    Args:
        files: the files, a later one over the earlier ones.
        root: the folder that their paths are relative to; also the clone, if it is one.

    Raises:
        ConfigError: with every finding.
    """
    paths = [Path(root) / path for path in files]
    data = merged(read(path, Path(root)).data for path in paths)
    return Config.parse(data, paths, clone_of(Path(root)), others=[Path(root)])


def _gates(parsed: Parsed, one: Combination) -> tuple[dict[str, Gate], dict[str, Gate]]:
    document, own = parsed.document, parsed.builds[one.entry].gates
    recipe, target = document.recipes[one.recipe], document.targets[one.target]
    weights = document.models[one.model].weights
    untrained = weights is not None and weights.kind == "random"
    defaults = default_gates(recipe, target, untrained=untrained)
    return merged_gates(defaults, document.gates, recipe.gates, own), defaults
