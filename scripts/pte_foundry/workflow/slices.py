"""What each stage reads of the config: plain data, which decides whether the stage runs again.

The rules compare slices, not the config. So a slice has no names in it that the stage could do
without, and nothing else that the stage does not need. ``workflow.stages`` says which function
belongs to which stage, and adds the options that its functions of the model module take.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from pte_foundry.canonical_json import digest
from pte_foundry.errors import ConfigError
from pte_foundry.models.decoder import TOKENIZER_FILES

if TYPE_CHECKING:
    from pte_foundry.config.config import Config


def key(readable: str, part: Mapping[str, Any]) -> str:
    """Returns a file name for what a slice shapes: readable, with a digest of the slice."""
    return f"{readable}-{digest(part)[:8]}"


def plain(entry: BaseModel) -> dict[str, Any]:
    """Returns an entry of the config as JSON-able data."""
    return entry.model_dump(mode="json")


def nothing(config: Config, **names: str) -> dict[str, Any]:
    return {}


def model(config: Config, model: str) -> dict[str, Any]:
    """The model's pins and declared imports; the rule adds the paths, which it knows."""
    entry = config.models[model]
    fetched = dict(entry.data)
    if not entry.weights.made_by:
        fetched["weights"] = entry.weights
    pins = {name: pin for name, one in fetched.items() if (pin := getattr(one, "sha256", None))}
    found = {"sha256": pins, "declared_imports": config.declared_imports(model)}
    if entry.enumerated_shapes:
        found["enumerated_shapes"] = entry.enumerated_shapes
    if entry.weights.kind == "random":
        found["seed"] = entry.weights.random
    if entry.origin is not None:
        found["origin"] = {"kind": entry.origin, "architecture": entry.timm}
    return found


def fetch(config: Config, model: str, name: str) -> dict[str, Any]:
    """A source, with a digest of what no pin determines."""
    source = config.source(model, name)
    contents = source.contents(config.source_folder(model, name))
    return plain(source) | ({} if contents is None else {"contents": contents})


def train(config: Config, model: str) -> dict[str, Any]:
    weights = config.models[model].weights
    return plain(weights) | {"options": config.options(model, weights.made_by)}


def calibrate(config: Config, model: str, recipe: str) -> dict[str, Any]:
    return config.recipes[recipe].calibration()


def convert(config: Config, model: str, recipe: str) -> dict[str, Any]:
    """The recipe; ``shared: true`` if it names modules that only other models need to have."""
    found: dict[str, Any] = {"recipe": config.recipe(recipe)}
    if config.recipes[recipe].names_modules and len(config.models_of(recipe)) > 1:
        found["recipe"] = found["recipe"] | {"shared": True}
    return found


def edge(config: Config, target: str) -> dict[str, Any]:
    skipped = config.targets[target].partitioner.skip_ops_for_coreml_delegation
    fixed = {"fixed_shapes": True} if config.targets[target].shapes == "fixed" else {}
    return {"skip_ops_for_coreml_delegation": sorted(skipped), **fixed}


def lower(config: Config, target: str) -> dict[str, Any]:
    entry = config.targets[target]
    part = plain(entry)
    del part["compute_units"], part["minimum_os"]
    part["specification_version"] = entry.specification_version
    part["partitioner"]["take_over_mutable_buffer"] = entry.takes_over_mutable_buffer
    return part


def pte(config: Config, target: str) -> dict[str, Any]:
    entry = config.targets[target]
    return {
        "compute_units": entry.compute_units,
        "compute_precision": entry.compute_precision,
        "model_type": entry.model_type,
        "specification_version": entry.specification_version,
        "states": entry.takes_over_mutable_buffer,
    }


def validate(config: Config, model: str, recipe: str, target: str, device: str) -> dict[str, Any]:
    """Raises ConfigError if the config asks for no such build."""
    build = config.by_names.get((model, recipe, target))
    if build is None:
        raise ConfigError(
            f"{model}/{recipe}/{target} is not among the builds, so it has no gates to be "
            "validated by; add it to `builds`"
        )
    sweep = config.parsed.sweeps.sweep_of(recipe)
    return {
        **({"sweep": sweep} if sweep else {}),
        "gates": {metric: plain(gate) for metric, gate in build.gates.items()},
        "default_gates": {metric: plain(gate) for metric, gate in build.default_gates.items()},
        "scheme": config.recipes[recipe].scheme,
        "calibrates": config.recipes[recipe].calibrates,
        "target": shown_settings(config, target),
        "device": plain(config.devices[device]),
    }


def shown_settings(config: Config, target: str) -> dict[str, Any]:
    """The settings of a target that a validation report carries, for the page."""
    shown = ("minimum_os", "compute_precision", "compute_units")
    entry = config.targets[target]
    found = {name: getattr(entry, name) for name in shown}
    return found | ({"shapes": entry.shapes} if entry.shapes else {})


def sources(config: Config, model: str) -> dict[str, Any]:
    """Where a model's weights and data come from, and all of its options."""
    entry = config.models[model]
    return {
        "weights": fetch(config, model, "weights"),
        "data": {name: fetch(config, model, name) for name in entry.data},
        "options": entry.options | ({"architecture": entry.timm} if entry.timm else {}),
        **({"enumerated_shapes": shapes} if (shapes := entry.enumerated_shapes) else {}),
    }


def plan(config: Config, model: str) -> dict[str, Any]:
    """What to build of a model, and from what: for the summary and the manifest."""
    builds = config.matrix.get(model, {})
    targets = sorted({target for named in builds.values() for target in named})
    return {
        "model": model,
        "builds": builds,
        **sources(config, model),
        "recipes": {recipe: config.recipe(recipe) for recipe in sorted(builds)},
        "targets": {name: lower(config, name) | pte(config, name) for name in targets},
        "tokenizer": tokenizer(config, model),
    }


def tokenizer(config: Config, model: str) -> list[str]:
    """The files of a language model's tokenizer, which belong to its artifacts."""
    files = TOKENIZER_FILES if config.has_tokenizer(model) else ()
    return [f"results/pte/{model}/tokenizer/{file}" for file in files]


def summary(config: Config) -> dict[str, Any]:
    return {"devices": sorted(config.devices)}


def report(config: Config) -> dict[str, Any]:
    models = {name: about for name in config.built_models if (about := config.about(name))}
    return {"divergence": config.divergence, "models": models}
