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
    return (x if x.dtype is torch.float32 else x.float()).mean(axes, keepdim=keep)


_REDUCTIONS: dict[str, Callable[[Tensor, Ints, bool], Tensor]] = {
    "reduce_l1_norm": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
    "reduce_l2_norm": lambda x, axes, keep: (x * x).sum(axes, keepdim=keep).sqrt(),
    "reduce_log_sum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log(),
    "reduce_log_sum_exp": _log_sum_exp,
    "reduce_mean": _mean,
    "reduce_prod": _prod,
    "reduce_sum": lambda x, axes, keep: x.sum(axes, keepdim=keep),
    "reduce_sum_square": lambda x, axes, keep: (x * x).sum(axes, keepdim=keep),
}


_CHOICES: dict[str, Callable[[Tensor, Ints, bool], Tensor]] = {
    "reduce_max": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "reduce_min": lambda x, axes, keep: x.amin(axes, keepdim=keep),
}
"""These round nothing, so fp16 stays fp16."""


def _register(name: str, function: Callable[[Tensor, Ints, bool], Tensor], kind: object) -> None:
    @op(name)
    def kernel(*, x: kind, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
        if axes == []:  # reduces nothing; torch would reduce everything
            result = function(x.unsqueeze(0), [0], False)
        else:
            result = function(x, list(range(x.ndim)) if axes is None else axes, keep_dims)
        # torch sums int32 in int64, and means and logarithms of integers are floats. The declared
        # type is that of x; the cast truncates, as in coremltools' value_inference.
        return result if result.dtype is x.dtype else result.to(x.dtype)


for _name, _function in _REDUCTIONS.items():
    _register(_name, _function, Upcast)
for _name, _function in _CHOICES.items():
    _register(_name, _function, Tensor)


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
