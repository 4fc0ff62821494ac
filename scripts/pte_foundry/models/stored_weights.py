"""Quantized weights as a model's file stores them: codes, scales and zero points.

A file of quantized weights is a result of somebody's calibration. To dequantize it and to quantize
again rounds twice; these numbers go into the Core ML program as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from pte_foundry.errors import ModelError
from pte_foundry.models.containers import kind_of

if TYPE_CHECKING:
    from gguf import ReaderTensor

_BITS = (4, 8)

# fp16 holds 11 bits of a scale and of a zero point: together at most this share of a group's
# largest weight. A wrong order of rows or a wrong sign is off by about all of it.
_ROUNDING = 2.0**-9


class StoredWeight(NamedTuple):
    """One quantized weight: ``(codes - zero_point) * scale``, with a scale per group of a row.

    Attributes:
        bits: 4 or 8.
        codes: int8 [rows, columns], from -8 to 7 or from -128 to 127.
        scale: floating point [rows, groups]; the groups of a row have equal sizes.
        zero_point: floating point or int8 [rows, groups]; None for zeros. Core ML takes fractions.
    """

    bits: int
    codes: Tensor
    scale: Tensor
    zero_point: Tensor | None = None

    def rows(self, order: Callable[[Tensor], Tensor]) -> StoredWeight:
        """Return the weight with its rows in another order: ``order`` maps [rows, n] to that."""
        zero_point = None if self.zero_point is None else order(self.zero_point)
        return StoredWeight(self.bits, order(self.codes), order(self.scale), zero_point)

    def dequantize(self) -> Tensor:
        """Return the weight in floating point [rows, columns]."""
        groups = self.codes.unflatten(1, (self.scale.shape[1], -1)).to(self.scale.dtype)
        if self.zero_point is not None:
            groups = groups - self.zero_point.to(self.scale.dtype)[..., None]
        return (groups * self.scale[..., None]).flatten(1)

    @property
    def format(self) -> str:
        """What it is, for messages and tables: ``int4 in groups of 32``."""
        size = self.codes.shape[1] // self.scale.shape[1]
        return f"int{self.bits} in groups of {size}"


def from_gguf(tensor: ReaderTensor) -> StoredWeight | None:
    """Return a tensor of a GGUF file as it is stored; None if Core ML has no such format.

    Q4_0, Q4_1 and Q8_0 hold blocks of 32 values (ggml/src/ggml-common.h): a scale d in fp16, in
    Q4_1 also the lowest value m, then the codes. The other types have scales of scales or code
    tables of their own.

    Args:
        tensor: of ``gguf.GGUFReader``, with two dimensions.
    """
    name = tensor.tensor_type.name
    if name not in ("Q4_0", "Q4_1", "Q8_0") or len(tensor.shape) != 2:
        return None
    columns, rows = (int(size) for size in tensor.shape)
    blocks = torch.from_numpy(tensor.data.copy()).reshape(rows, columns // 32, -1)
    scale = blocks[..., :2].contiguous().view(torch.float16)[..., 0].float()
    if name == "Q8_0":
        return StoredWeight(8, blocks[..., 2:].contiguous().view(torch.int8).flatten(1), scale)
    packed = blocks[..., -16:]  # the lower halves hold values 0 to 15, the upper ones 16 to 31
    codes = (torch.cat([packed & 15, packed >> 4], dim=-1).to(torch.int8) - 8).flatten(1)
    if name == "Q4_0":
        return StoredWeight(4, codes, scale)
    lowest = blocks[..., 2:4].contiguous().view(torch.float16)[..., 0].float()
    return StoredWeight(4, *_with_zero_points(codes, scale, lowest))


def _with_zero_points(codes: Tensor, scale: Tensor, lowest: Tensor) -> tuple[Tensor, ...]:
    """Return codes, scales and zero points of ``(codes + 8) * scale + lowest``."""
    flat = scale == 0  # all values of the group are its lowest: one step above the zero point
    scale = torch.where(flat, torch.where(lowest == 0, 1.0, lowest), scale)
    zero_point = torch.where(flat, -(lowest != 0).float(), -8 - lowest / scale)
    codes = codes.masked_fill(flat.repeat_interleave(32, dim=1), 0)
    return codes, scale, zero_point


def check_stored(stored: Any, model: nn.Module) -> dict[str, StoredWeight]:
    """Return what ``stored_weights()`` gave, checked against the model's own weights.

    Raises:
        ModelError: it is no dict of StoredWeight by names of modules; or numbers, shapes or values
            are not those of the module's weight.
    """
    if not isinstance(stored, Mapping):
        raise ModelError(f"returned {kind_of(stored)}; return a dict: name of a module, its weight")
    modules = dict(model.named_modules())
    for name, weight in stored.items():
        if not isinstance(weight, StoredWeight):
            raise ModelError(f"gave {kind_of(weight)} for {name!r}; give a StoredWeight")
        own = getattr(modules.get(name), "weight", None)
        if not isinstance(own, Tensor):
            raise ModelError(f"gave a weight for {name!r}, and the model has no such module")
        if problem := _problem(weight, own.detach()):
            raise ModelError(f"gave {name!r} {problem}")
    return dict(stored)


def _problem(weight: StoredWeight, own: Tensor) -> str | None:
    """Return what is wrong with a stored weight, or None."""
    bits, codes, scale, zero_point = weight
    if bits not in _BITS or codes.dtype != torch.int8:
        return f"as {codes.dtype} of {bits} bits; Core ML has int8 codes of 4 or 8 bits"
    if codes.shape != own.shape or codes.ndim != 2:
        return f"with the shape {list(codes.shape)}; the module's weight has {list(own.shape)}"
    fits = scale.ndim == 2 and scale.shape[0] == codes.shape[0] and scale.shape[1] > 0
    if not fits or codes.shape[1] % scale.shape[1] or not scale.is_floating_point():
        return f"with {scale.dtype} scales {list(scale.shape)}; they must be [rows, groups] floats"
    if zero_point is not None and zero_point.shape != scale.shape:
        return f"with zero points {list(zero_point.shape)} and scales {list(scale.shape)}"
    half = 1 << (bits - 1)
    low, high = (int(bound) for bound in codes.aminmax())
    if low < -half or high >= half:
        return f"with codes from {low} to {high}; {bits} bits hold {-half} to {half - 1}"
    groups = (scale.shape[1], -1)
    wrong = (weight.dequantize() - own).abs().unflatten(1, groups).amax(-1)
    off = wrong > _ROUNDING * own.abs().unflatten(1, groups).amax(-1)
    if not bool(off.any()):
        return None
    row = int(off.any(1).nonzero()[0])
    return (
        f"that is not the module's weight: row {row} differs by {float(wrong[row].max()):.3g}; "
        "give the rows the order that build() gives them"
    )
