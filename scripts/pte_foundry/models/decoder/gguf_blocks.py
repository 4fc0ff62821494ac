"""The blocks of 32 quantized weights in a GGUF file, as integers, scales and zero points.

Layouts are those of gguf-py/gguf/quants.py (gguf 0.19): a scale in fp16, of Q4_1 a minimum as well,
then the integers; four bits hold the first half of a block low and the second high. Core ML has the
same formats: integers with a scale, and an offset that need not be whole (iOS18's
``constexpr_blockwise_shift_scale``), so nothing is quantized again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pte_foundry.errors import ModelError
from pte_foundry.models.decoder.config import DecoderConfig
from pte_foundry.models.decoder.gguf import in_halves, names_of
from pte_foundry.models.stored import Stored

if TYPE_CHECKING:
    from gguf import GGUFReader

_Parts = tuple[np.ndarray, np.ndarray, np.ndarray]
_FLOATS = ("F32", "F16", "BF16")


def _q4(blocks: np.ndarray, start: int) -> np.ndarray:
    packed = blocks[..., start:]
    return np.concatenate((packed & 15, packed >> 4), -1).astype(np.int8) - 8


def _half(blocks: np.ndarray, start: int) -> np.ndarray:
    pair = np.ascontiguousarray(blocks[..., start : start + 2])
    return pair.view(np.float16)[..., 0].astype(np.float32)


def _q4_0(blocks: np.ndarray) -> _Parts:
    scale = _half(blocks, 0)
    return _q4(blocks, 2), scale, np.zeros_like(scale)


def _q4_1(blocks: np.ndarray) -> _Parts:
    """``scale * integer + minimum``; integers are stored minus 8, so that they are signed."""
    codes, scale, minimum = _q4(blocks, 4), _half(blocks, 0), _half(blocks, 2)
    constant = scale == 0  # a block of equal values: they are the offset, and every integer is zero
    codes[constant] = 0
    divided = minimum / np.where(constant, 1, scale)
    zero = np.where(constant, -minimum, -8 - divided)
    return codes, np.where(constant, 1, scale).astype(np.float32), zero.astype(np.float32)


def _q8_0(blocks: np.ndarray) -> _Parts:
    scale = _half(blocks, 0)
    codes = np.ascontiguousarray(blocks[..., 2:]).view(np.int8)
    return codes, scale, np.zeros_like(scale)


KINDS: dict[str, tuple[int, int, Callable[[np.ndarray], _Parts]]] = {
    "Q4_0": (4, 18, _q4_0),
    "Q4_1": (4, 20, _q4_1),
    "Q8_0": (8, 34, _q8_0),
}
"""By kind: bits, bytes of a block, and how it is read."""


def stored_weights(reader: GGUFReader, config: DecoderConfig) -> dict[str, Stored]:
    """Returns the quantized weights of a file by the names of their modules.

    Raises:
        ModelError: there are none, or some are in blocks that Core ML has no format for.
    """
    kinds = {tensor.tensor_type.name for tensor in reader.tensors}
    if others := sorted(kinds - KINDS.keys() - set(_FLOATS)):
        raise ModelError(
            f"has weights as {', '.join(others)}, which Core ML has no format for; allowed: "
            f"{', '.join(KINDS)}; use a recipe that quantizes again, or another file"
        )
    if not kinds & KINDS.keys():
        raise ModelError(f"has no quantized weights; allowed: {', '.join(KINDS)}")
    found = {}
    for tensor, name, heads in names_of(reader, config):
        if tensor.tensor_type.name in KINDS:
            found[name.removesuffix(".weight")] = _stored(tensor, heads)
    if config.tied and "model.embed_tokens" in found:
        found["lm_head"] = found["model.embed_tokens"]
    return found


def _stored(tensor: Any, heads: int | None) -> Stored:
    bits, size, read = KINDS[tensor.tensor_type.name]
    blocks = np.asarray(tensor.data).reshape(tensor.data.shape[0], -1, size)
    codes, scale, zero = (torch.from_numpy(part.copy()) for part in read(blocks))
    parts = (codes.flatten(1), scale, zero)
    if heads is not None:
        parts = tuple(in_halves(part, heads) for part in parts)
    return Stored(*(part.contiguous() for part in parts), bits)
