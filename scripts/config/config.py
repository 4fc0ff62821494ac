"""The checked configuration: its builds, and the part of it that each stage reads.

What a stage's slice does not hold cannot cause that stage to run again: the rules hash the slice,
not the config. So a slice has no names in it, and nothing that the stage could do without.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from scripts.config import yamlfiles
from scripts.config.check_builds import check_builds, combinations
from scripts.config.check_models import check_models
from scripts.config.check_parts import check_recipes, check_targets
from scripts.config.defaults import default_gates
from scripts.config.findings import Finding, raise_for
from scripts.config.gates import Gate, merged_gates
from scripts.config.interface import Interface, read_interface
from scripts.config.models import Model
from scripts.config.parse import Parsed, RecipeModel, parse
from scripts.config.recipes import QuantizeRecipe
from scripts.config.slices import activations, flat, key, plain
from scripts.config.structure import Module, structure_findings
from scripts.config.systems import oldest
from scripts.config.targets import Target
from scripts.errors import ConfigError


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
    devices: tuple[str, ...]
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
        devices = tuple(parsed.devices)
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

    def check_structure(self, modules: Mapping[str, Sequence[Module]]) -> None:
        """Check the recipes against the models whose tables of modules are given, by model.

        Raises ``ConfigError`` with every finding.
        """
        pairs = dict.fromkeys((build.model, build.recipe) for build in self.builds)
        raise_for(
            self.located(finding)
            for model, recipe in pairs
            if model in modules
            for finding in structure_findings(recipe, self._recipe(recipe), model, modules[model])
        )

    def slice(self, stage: str, **names: str) -> dict[str, Any]:
        """Return what a stage reads of the configuration, as plain JSON-able data.

        The stages and the names they need: ``fetch(model, name)`` with the name of a data file or
        ``weights``; ``train``, ``export``, ``reference`` (model); ``calibrate`` and ``convert``
        (model, recipe); ``edge``, ``lower``, ``pte`` (target); ``validate`` (model, recipe,
        target).
        For the manifest: ``sources`` (model), ``recipes()`` and ``targets()`` that are built.
        """
        return getattr(self, f"_slice_{stage}")(**names)

    @cached_property
    def built_models(self) -> list[str]:
        """The models that builds need, sorted."""
        return sorted({build.model for build in self.builds})

    def calibrates(self, recipe: str) -> bool:
        """Whether builds of a recipe need calibration."""
        return self.recipes[recipe].calibrates

    def activation_key(self, model: str, recipe: str) -> str:
        """Name what ``calibrate`` makes: equal for recipes that differ in weight settings only."""
        entry = self.recipes[recipe]
        if not entry.calibrates:
            raise ValueError(f"recipe {recipe} quantizes no activations: it has no calibration")
        samples = entry.calibration_samples or "all"
        return key(f"samples-{samples}", self.slice("calibrate", model=model, recipe=recipe))

    def edge_key(self, target: str) -> str:
        """Name what of a target shapes the edge program: the operators that Core ML must not have.

        ``default`` if there are none.
        """
        part = self.slice("edge", target=target)
        return key("skip", part) if any(part.values()) else "default"

    def lowering_key(self, target: str) -> str:
        """Name what of a target shapes the Core ML program, e.g. ``ios18-float16-1a2b3c4d``."""
        entry = self.targets[target]
        system = oldest(entry.specification_version).lower()
        return key(f"{system}-{entry.compute_precision}", self.slice("lower", target=target))

    def recipe_of(self, model: str, activation_key: str) -> str:
        """Return a recipe with this activation key; any will do, their slices are equal."""
        return self._calibrated[model, activation_key]

    @cached_property
    def _calibrated(self) -> dict[tuple[str, str], str]:
        pairs = dict.fromkeys((build.model, build.recipe) for build in self.builds)
        return {
            (model, self.activation_key(model, recipe)): recipe
            for model, recipe in pairs
            if self.recipes[recipe].calibrates
        }

    def target_of(self, lowering_key: str) -> str:
        """Return a target with this lowering key; any will do, their slices are equal."""
        return self._lowered[lowering_key]

    @cached_property
    def _lowered(self) -> dict[str, str]:
        return {self.lowering_key(name): name for name in self.targets}

    @cached_property
    def _by_names(self) -> dict[tuple[str, str, str], Build]:
        return {(build.model, build.recipe, build.target): build for build in self.builds}

    def edge_target_of(self, edge_key: str) -> str:
        """Return a target with this edge key; any will do, their slices are equal."""
        return self._edges[edge_key]

    @cached_property
    def _edges(self) -> dict[str, str]:
        return {self.edge_key(name): name for name in self.targets}

    @cached_property
    def _interfaces(self) -> dict[str, Interface]:
        return {name: read_interface(self.root / m.module) for name, m in self.models.items()}

    def _options(self, model: str, stage: str) -> dict[str, Any]:
        taken = self._interfaces[model].options_of(stage)
        options = self.models[model].options
        return {key: value for key, value in options.items() if taken is None or key in taken}

    def _slice_fetch(self, model: str, name: str) -> dict[str, Any]:
        entry = self.models[model]
        return plain(entry.weights if name == "weights" else entry.data[name])

    def _slice_train(self, model: str) -> dict[str, Any]:
        return {"options": self._options(model, "train"), **plain(self.models[model].weights)}

    def _slice_export(self, model: str) -> dict[str, Any]:
        return {"options": self._options(model, "export")}

    def _slice_reference(self, model: str) -> dict[str, Any]:
        return {"options": self._options(model, "reference")}

    def _slice_sources(self, model: str) -> dict[str, Any]:
        entry = self.models[model]
        data = {name: plain(source) for name, source in entry.data.items()}
        return {"weights": plain(entry.weights), "data": data, "options": entry.options}

    def _slice_recipes(self) -> dict[str, Any]:
        return {name: self._recipe(name) for name in sorted({b.recipe for b in self.builds})}

    def _slice_targets(self) -> dict[str, Any]:
        return {
            name: self.slice("lower", target=name) | self.slice("pte", target=name)
            for name in sorted({build.target for build in self.builds})
        }

    def _slice_calibrate(self, model: str, recipe: str) -> dict[str, Any]:
        entry = self.recipes[recipe]
        by_key = {
            key: {name: activations(part) for name, part in getattr(entry, key).items()}
            for key in ("module_type_configs", "module_name_configs")
        }
        return {
            "options": self._options(model, "calibrate"),
            "activations": {"global_config": activations(entry.global_config), **by_key},
            "calibration_samples": entry.calibration_samples,
        }

    def _slice_convert(self, model: str, recipe: str) -> dict[str, Any]:
        return {"options": self._options(model, "convert"), "recipe": self._recipe(recipe)}

    def _slice_edge(self, target: str) -> dict[str, Any]:
        skipped = self.targets[target].partitioner.skip_ops_for_coreml_delegation
        return {"skip_ops_for_coreml_delegation": sorted(skipped)}

    def _slice_lower(self, target: str) -> dict[str, Any]:
        entry = self.targets[target]
        part = plain(entry)
        del part["compute_units"], part["minimum_os"]
        part["specification_version"] = entry.specification_version
        part["partitioner"]["take_over_mutable_buffer"] = entry.takes_over_mutable_buffer
        return part

    def _slice_pte(self, target: str) -> dict[str, Any]:
        entry = self.targets[target]
        return {
            "compute_units": entry.compute_units,
            "compute_precision": entry.compute_precision,
            "model_type": entry.model_type,
            "specification_version": entry.specification_version,
            "states": entry.takes_over_mutable_buffer,
        }

    def _slice_validate(self, model: str, recipe: str, target: str) -> dict[str, Any]:
        build = self._by_names.get((model, recipe, target))
        if build is None:
            raise ConfigError(
                f"{model}/{recipe}/{target} is not among the builds, so it has no gates to be "
                "validated by; add it to `builds`"
            )
        gates = {metric: plain(gate) for metric, gate in build.gates.items()}
        shown = ("minimum_os", "compute_precision", "compute_units")
        return {
            "options": self._options(model, "validate"),
            "gates": gates,
            "scheme": self.recipes[recipe].scheme,
            "target": {name: getattr(self.targets[target], name) for name in shown},
        }

    def _recipe(self, name: str) -> dict[str, Any]:
        recipe = self.recipes[name]
        part = plain(recipe)
        del part["gates"]
        if isinstance(recipe, QuantizeRecipe):
            part["steps"] = [flat(step) for step in recipe.steps]
        return part


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
