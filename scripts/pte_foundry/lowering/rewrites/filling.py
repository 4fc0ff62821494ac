"""Rewrites of operators that fill a tensor with one value."""

import torch

aten = torch.ops.aten


def zeros_like(x: torch.Tensor, *, dtype: torch.dtype | None = None, **_: object) -> torch.Tensor:
    """``full``: the converter ignores ``dtype``, so the zeros of a bool mask stay bool.

    It computes the zeros of a dynamic shape as ``x - x``, which is NaN where ``x`` is infinite.
    """
    static = all(isinstance(size, int) for size in x.shape)
    if static and dtype in (None, x.dtype):
        return NotImplemented
    return aten.full.default(x.shape, 0, dtype=dtype or x.dtype, device=x.device, pin_memory=False)


REWRITES = {aten.zeros_like.default: zeros_like}
