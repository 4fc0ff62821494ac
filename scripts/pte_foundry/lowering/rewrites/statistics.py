"""Rewrites of statistics."""

from collections.abc import Callable, Sequence
from functools import partial

import torch

aten = torch.ops.aten


def deviation(
    corrected: Callable[..., torch.Tensor],
    x: torch.Tensor,
    dim: Sequence[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> torch.Tensor:
    """Bessel's correction: where it is left out, the converter divides by N instead of N - 1.

    Args:
        corrected: the operator: ``std.correction`` or ``var.correction``.
    """
    if correction is not None and dim is not None:
        return NotImplemented
    correction = 1 if correction is None else correction
    return corrected(x, dim or list(range(x.dim())), correction=correction, keepdim=keepdim)


REWRITES = {
    operator: partial(deviation, operator)
    for operator in (aten.std.correction, aten.var.correction)
}
