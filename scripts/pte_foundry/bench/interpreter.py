"""Executing artifacts with the interpreter against running the model in torch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pte_foundry.bench import footprint
from pte_foundry.bench.built import artifacts, load_module, reference
from pte_foundry.bench.measure import Comparison, Side, side_by_side

TITLE = "Interpreter"
HOW = (
    "Seconds for one evaluation sample: pte_foundry.pte.Pte.run on every recipe's artifact against "
    "the eager fp32 model in torch with the same weights and input, both with torch's threads. "
    "Medians of up to 15 repetitions after 2 warm-ups. limit: the most that it may take, as a "
    "multiple of eager's time: 1.5 for programs that compute in fp32, 2 for fp16. load_s, "
    "first_run_s and peak_bytes are measured in a process of its own. peak_bytes: peak memory of "
    "loading and running beyond the libraries'. weights_bytes: the decompressed weights in the "
    "program's dtypes. peak_ratio: their ratio, which activations dominate in small models. "
    "eager_run_bytes: what running the eager model takes beyond its weights, measured likewise; "
    "net_peak_ratio is peak_ratio without it."
)
MODELS = {"mobilenet_v2": "MobileNetV2", "minilm": "MiniLM", "smollm2": "SmolLM2"}
LIMITS = {"float32": 1.5, "float16": 2.0}


def missing(results: Path) -> list[str]:
    """Returns the models that are not built below ``results``."""
    return [
        name
        for name in MODELS
        if not (reference(results, name).is_file() and artifacts(results, name))
    ]


def comparisons(results: Path) -> Iterator[Comparison]:
    """Yields one for each recipe of the models that are built below ``results``."""
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
    """Adds ``peak_ratio`` and ``net_peak_ratio``, where known, to facts, and returns them."""
    weights = facts["weights_bytes"]
    if "peak_bytes" in facts and weights:
        facts["peak_ratio"] = facts["peak_bytes"] / weights
        if "eager_run_bytes" in facts:
            net = facts["peak_bytes"] - facts["eager_run_bytes"]
            facts["net_peak_ratio"] = net / weights
    return facts
