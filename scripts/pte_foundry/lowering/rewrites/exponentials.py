"""Rewrites of exponentials and logarithms that lose their digits in float16."""

import torch

from pte_foundry.upstream.torch_operators import operator

aten = torch.ops.aten


def expm1(x: torch.Tensor) -> torch.Tensor:
    """``2 t / (1 - t)`` with ``t = tanh(x / 2)`` near zero, where ``exp(x) - 1`` cancels."""
    if not x.is_floating_point():
        return NotImplemented
    t = aten.tanh.default(aten.mul.Tensor(x, 0.5))
    near = aten.div.Tensor(aten.mul.Tensor(t, 2.0), aten.add.Tensor(aten.neg.default(t), 1.0))
    far = aten.sub.Tensor(aten.exp.default(x), 1.0)
    return aten.where.self(aten.lt.Scalar(aten.abs.default(x), 1.0), near, far)


def log1p(x: torch.Tensor) -> torch.Tensor:
    """``2 atanh(z)`` with ``z = x / (2 + x)`` near zero: the converter rounds ``1 + x`` first.

    The series ends after ``z⁸``: the next term is below the resolution of float32 for |x| < 0.3.
    """
    if not x.is_floating_point():
        return NotImplemented
    z = aten.div.Tensor(x, aten.add.Scalar(x, 2))
    square = aten.mul.Tensor(z, z)
    series = aten.mul.Scalar(square, 1 / 9)
    for divisor in (7, 5, 3, 1):
        series = aten.add.Scalar(series, 1 / divisor)
        series = aten.mul.Tensor(series, square) if divisor > 1 else series
    near = aten.mul.Scalar(aten.mul.Tensor(z, series), 2)
    far = aten.log.default(aten.add.Scalar(x, 1))
    return aten.where.self(aten.lt.Scalar(aten.abs.default(x), 0.3), near, far)


def log_softmax(x: torch.Tensor, dim: int, dtype: torch.dtype | None = None) -> torch.Tensor:
    """``x - max - log Σ exp(x - max)``: the converter takes the logarithm of a softmax.

    That underflows: in float16 at 17 below the largest element, in float32 at 104.
    """
    if not x.dim() or dtype not in (None, x.dtype) or not x.is_floating_point():
        return NotImplemented
    shifted = aten.sub.Tensor(x, aten.amax.default(x, [dim], True))
    total = aten.sum.dim_IntList(aten.exp.default(shifted), [dim], True)
    return aten.sub.Tensor(shifted, aten.log.default(total))


def logcumsumexp(x: torch.Tensor, dim: int) -> torch.Tensor:
    """A ``logsumexp`` for each element over those up to it: the converter's ``exp`` overflows.

    The square of the length is computed, because one shift for all elements would underflow.
    """
    length = x.shape[dim] if x.dim() else None
    if not isinstance(length, int) or not x.is_floating_point():
        return NotImplemented
    rows = aten.unsqueeze.default(aten.transpose.int(x, dim, -1), -2)
    position = aten.arange.default(length)
    later = aten.gt.Tensor(position, aten.unsqueeze.default(position, 1))
    shape = [*rows.shape[:-2], length, length]
    square = aten.masked_fill.Scalar(aten.expand.default(rows, shape), later, float("-inf"))
    return aten.transpose.int(aten.logsumexp.default(square, [-1]), dim, -1)


REWRITES = {
    aten.log1p.default: log1p,
    operator("aten._log_softmax.default"): lambda x, dim, half_to_float: log_softmax(x, dim),
    operator("aten._logcumsumexp.default"): logcumsumexp,
    aten.expm1.default: expm1,
    aten.log_softmax.int: log_softmax,
    aten.logcumsumexp.default: logcumsumexp,
}
