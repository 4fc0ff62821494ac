"""Reductions (``iOS15`` and ``iOS17/reduction.py``)."""

from collections.abc import Callable

import torch
from torch import Tensor

from pte_foundry.formats.mil_dtypes import BY_NAME
from pte_foundry.mil.parameters import Ints, Upcast
from pte_foundry.mil.registry import op


def _prod(x: Tensor, axes: Ints, keep: bool) -> Tensor:
    for axis in sorted((a % x.ndim for a in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _log_sum_exp(x: Tensor, axes: Ints, keep: bool) -> Tensor:
    return torch.logsumexp(x.float(), axes, keepdim=keep)


def _mean(x: Tensor, axes: Ints, keep: bool) -> Tensor:
    return x.float().mean(axes, keepdim=keep)


_REDUCTIONS: dict[str, Callable[[Tensor, Ints, bool], Tensor]] = {
    "reduce_l1_norm": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
    "reduce_l2_norm": lambda x, axes, keep: (x * x).sum(axes, keepdim=keep).sqrt(),
    "reduce_log_sum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log(),
    "reduce_log_sum_exp": _log_sum_exp,
    "reduce_max": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "reduce_mean": _mean,
    "reduce_min": lambda x, axes, keep: x.amin(axes, keepdim=keep),
    "reduce_prod": _prod,
    "reduce_sum": lambda x, axes, keep: x.sum(axes, keepdim=keep),
    "reduce_sum_square": lambda x, axes, keep: (x * x).sum(axes, keepdim=keep),
}


def _register(name: str, function: Callable[[Tensor, Ints, bool], Tensor]) -> None:
    @op(name)
    def kernel(*, x: Upcast, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
        if axes == []:  # reduces nothing; torch would reduce everything
            return function(x.unsqueeze(0), [0], False).to(x.dtype)
        axes = list(range(x.ndim)) if axes is None else axes
        # torch sums int32 in int64, and means and logarithms of integers are floats. The declared
        # type is that of x; the cast truncates, as in coremltools' value_inference.
        return function(x, axes, keep_dims).to(x.dtype)


for _name, _function in _REDUCTIONS.items():
    _register(_name, _function)


# Ties: "the identity of the return value is not guaranteed" (iOS15/reduction.py).
@op("reduce_argmax")
def reduce_argmax(
    *, x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Tensor:
    return x.argmax(axis, keepdim=keep_dims).to(BY_NAME[output_dtype.lower()].torch)


@op("reduce_argmin")
def reduce_argmin(
    *, x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Tensor:
    return x.argmin(axis, keepdim=keep_dims).to(BY_NAME[output_dtype.lower()].torch)
