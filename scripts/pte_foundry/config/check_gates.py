"""Checks that every gate limits a metric that its models measure."""

from collections.abc import Iterator
from pathlib import Path

from pte_foundry.config.check_builds import every_combination
from pte_foundry.config.check_models import files_of
from pte_foundry.config.gates import COMMON_METRICS, Gate, Gates
from pte_foundry.config.interface import interface_of
from pte_foundry.config.layers import Layers
from pte_foundry.config.parse import Parsed
from pte_foundry.findings import Finding, KeyPath, did_you_mean, listed

_Measured = dict[str, frozenset[str] | None]
"""The task metrics of each model; ``None``: its source does not show them."""


def check_gates(parsed: Parsed, layers: Layers) -> Iterator[Finding]:
    """Find gates on metrics that no model of theirs measures, or that only some measure."""
    measured = {
        name: _task_metrics(files_of(layers, name, model))
        for name, model in parsed.document.models.items()
    }
    used = _models_by_gate(parsed)
    for place, gates in _places(parsed):
        for metric, gate in gates.items():
            if gate is None or metric in COMMON_METRICS:
                continue
            models = used.get((place, metric)) or list(measured)
            lacking = [name for name in models if not _may_measure(measured.get(name), metric)]
            yield from _finding((*place, metric), gate, models, lacking, measured)


def _finding(
    path: KeyPath, gate: Gate, models: list[str], lacking: list[str], measured: _Measured
) -> Iterator[Finding]:
    if not lacking or (gate.optional and len(lacking) < len(models)):
        return
    metric = path[-1]
    own = sorted({name for model in models for name in measured.get(model) or ()})
    known = [*COMMON_METRICS, *own]
    if len(lacking) == len(models):
        problem = "no validation of its builds measures this metric"
        otherwise = "use one of these, or return it from score() or agreement() of the module"
        yield Finding(path, problem, listed(known), did_you_mean(metric, known, otherwise))
    else:
        problem = f"{', '.join(lacking)} {_verb(lacking)} not measure this metric"
        fix = "set `optional: true`, or move the gate to the builds of the other models"
        yield Finding(path, problem, "metrics of every model that the gate applies to", fix)


def _verb(names: list[str]) -> str:
    return "does" if len(names) == 1 else "do"


def _places(parsed: Parsed) -> Iterator[tuple[KeyPath, Gates]]:
    """Where gates are set, with the gates."""
    yield ("gates",), parsed.document.gates
    for name, recipe in parsed.document.recipes.items():
        yield ("recipes", name, "gates"), recipe.gates
    for index, entry in parsed.builds.items():
        yield ("builds", index, "gates"), entry.gates


def _models_by_gate(parsed: Parsed) -> dict[tuple[KeyPath, str], list[str]]:
    """The models with a build where a gate applies, by its place and metric.

    A later place replaces or removes the gates of an earlier one (``config.gates.merged_gates``).
    """
    places = dict(_places(parsed))
    found: dict[tuple[KeyPath, str], dict[str, None]] = {}
    for one in every_combination(parsed):
        order = (("gates",), ("recipes", one.recipe, "gates"), ("builds", one.entry, "gates"))
        last = {metric: place for place in order for metric in places.get(place, ())}
        for metric, place in last.items():
            found.setdefault((place, metric), {})[one.model] = None
    return {key: list(models) for key, models in found.items()}


def _may_measure(metrics: frozenset[str] | None, metric: str) -> bool:
    return metrics is None or metric in metrics


def _task_metrics(files: list[Path]) -> frozenset[str] | None:
    try:
        return interface_of(files).metrics
    except (OSError, SyntaxError, ValueError):
        return None  # a finding of check_models
