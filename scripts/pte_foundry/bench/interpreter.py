"""Executing the bytes that ship against running the model in torch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pte_foundry.bench import footprint
from pte_foundry.bench.measure import Comparison, Side, side_by_side

if TYPE_CHECKING:
    from pte_foundry.models.module import ModelModule

TITLE = "Interpreter"
HOW = (
    "Seconds for one evaluation sample: pte_foundry.pte.Pte.run on every recipe's artifact against the "
    "eager fp32 model in torch with the same weights and input, both with torch's threads. Medians "
    "of up to 15 repetitions after 2 that do not count. limit: how many times eager's time it may "
    "take, 1.5 for programs that compute in fp32 and 2 for fp16 ones. load_s, first_run_s and "
    "peak_bytes are measured in a process of its own; peak_bytes is the most memory that loading "
    "and running took beyond the libraries', weights_bytes that of the decompressed weights in the "
    "program's own dtypes, peak_ratio their ratio. Activations dominate it where a model is small: "
    "eager_run_bytes is what running the eager model takes beyond its weights, measured alike, and "
    "net_peak_ratio leaves as much out of peak_bytes."
)
MODELS = {"mobilenet_v2": "MobileNetV2", "minilm": "MiniLM", "smollm2": "SmolLM2"}
LIMITS = {"float32": 1.5, "float16": 2.0}
# Which target's artifact is measured, where a recipe has several: they differ little.
_TARGETS = ("ios18_fp32", "ios18", "ios17", "ios16")
_MODULES = Path(__file__).parents[2] / "config" / "models"


def missing(results: Path) -> list[str]:
    """Models of which there is nothing to measure below ``results``."""
    return [
        name
        for name in MODELS
        if not (reference(results, name).is_file() and artifacts(results, name))
    ]


def artifacts(results: Path, model: str) -> dict[str, Path]:
    """One artifact for each recipe of a model that is below ``results``, by recipe."""
    found: dict[str, Path] = {}
    for folder in sorted((results / "pte" / model).glob("*/")):
        files = (folder / f"{target}.pte" for target in _TARGETS)
        if existing := [file for file in files if file.is_file()]:
            found[folder.name] = existing[0]
    return found


def comparisons(results: Path) -> Iterator[Comparison]:
    """Compares each artifact that exists below ``results``."""
    absent = missing(results)
    for model, title in MODELS.items():
        if model not in absent:
            yield from _compare(results, model, title)


def _compare(results: Path, model: str, title: str) -> Iterator[Comparison]:
    import torch

    from pte_foundry.formats.inspect_pte import describe
    from pte_foundry.models.tensors import Samples
    from pte_foundry.pte import Pte

    samples = reference(results, model)
    sample = Samples.load(samples).inputs[0]
    network = load_module(results, model).build()
    eager_facts = footprint.of_eager(results, model)
    for recipe, path in artifacts(results, model).items():
        program = Pte.load(path)
        with torch.inference_mode():
            interpreted, eager, _, _ = side_by_side(
                partial(program.run, sample), partial(network, *sample), repetitions=15, warm_ups=2
            )
        dtypes = {dtype for d in describe(path).delegates for dtype in d.compute_dtypes}
        limit = LIMITS["float16" if "float16" in dtypes else "float32"]
        yield Comparison(
            f"{title} {recipe}",
            Side("pte_foundry.pte.Pte.run", interpreted),
            Side("eager torch, fp32", eager),
            {"limit": limit, **ratios({**footprint.of(path, samples), **eager_facts})},
        )


def ratios(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts with what follows from them: memory as multiples of the weights."""
    weights = facts["weights_bytes"]
    if "peak_bytes" in facts and weights:
        facts["peak_ratio"] = facts["peak_bytes"] / weights
        if "eager_run_bytes" in facts:
            net = facts["peak_bytes"] - facts["eager_run_bytes"]
            facts["net_peak_ratio"] = net / weights
    return facts


def load_module(results: Path, model: str) -> ModelModule:
    """The model as the build ran it: its weights and data are where the build fetched them."""
    from pte_foundry.models.module import ModelModule

    fetched = {
        folder.name: next(folder.iterdir()) for folder in (results / "fetch" / model).iterdir()
    }
    weights = fetched.pop("weights")
    return ModelModule.load(_MODULES / f"{model}.py", weights, fetched, {})


def reference(results: Path, model: str) -> Path:
    return results / "reference" / f"{model}.safetensors"
