"""Rewrites of elementwise and linear algebra."""

import math

import torch

from pte_foundry.upstream.torch_operators import operator

aten = torch.ops.aten
to_copy = operator("aten._to_copy.default")

SMALLEST = 2.0**-14  # the smallest normal number of float16


def atan2(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The angle by octants: the converter gives 0 at (0, -1) and NaN at (0, 0) in float16.

    See coremltools#2769. The arc tangent is taken of the smaller over the larger side, which
    neither overflows nor underflows.
    """
    if not (y.is_floating_point() and x.is_floating_point()):
        return NotImplemented
    height, width = aten.abs.default(y), aten.abs.default(x)
    longer = aten.maximum.default(height, width)
    divisor = aten.add.Tensor(longer, to_copy(aten.eq.Scalar(longer, 0), dtype=longer.dtype))
    angle = aten.atan.default(aten.div.Tensor(aten.minimum.default(height, width), divisor))
    angle = aten.where.self(aten.gt.Tensor(height, width), _less(math.pi / 2, angle), angle)
    angle = aten.where.self(aten.lt.Scalar(x, 0), _less(math.pi, angle), angle)
    return aten.where.self(aten.lt.Scalar(y, 0), aten.neg.default(angle), angle)


def _less(number: float, x: torch.Tensor) -> torch.Tensor:
    return aten.add.Tensor(aten.neg.default(x), number)


def cosine_similarity(
    x: torch.Tensor, y: torch.Tensor, dim: int = 1, eps: float = 1e-8
) -> torch.Tensor:
    """The product of both vectors over their norms, each scaled by its largest element.

    The converter expects another number of arguments. torch's own decomposition divides by
    ``max(norm, eps)``, which in float16 is 0 for a vector of zeros, and its squares overflow.
    """

    def scaled(vector: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        largest = aten.amax.default(aten.abs.default(vector), [dim], True)
        scale = aten.clamp.default(largest, SMALLEST)
        vector = aten.div.Tensor(vector, scale)
        norm = aten.sqrt.default(aten.sum.dim_IntList(aten.mul.Tensor(vector, vector), [dim], True))
        least = aten.mul.Tensor(
            aten.div.Tensor(aten.full.default([], SMALLEST), scale), eps / SMALLEST
        )
        return vector, aten.maximum.default(norm, least)

    (x, x_norm), (y, y_norm) = scaled(x), scaled(y)
    product = aten.mul.Tensor(aten.div.Tensor(x, x_norm), aten.div.Tensor(y, y_norm))
    return aten.sum.dim_IntList(product, [dim])


def hann_window(length: int, periodic: bool = True, **options: object) -> torch.Tensor:
    """``sin²``: the converter expects another number of arguments."""
    dtype = options.get("dtype") or torch.get_default_dtype()
    if length == 1:
        return aten.full.default([1], 1, dtype=dtype)
    step = math.pi / (length if periodic else length - 1)
    sine = aten.sin.default(aten.mul.Tensor(aten.arange.default(length, dtype=dtype), step))
    return aten.mul.Tensor(sine, sine)


def mean(
    x: torch.Tensor,
    dim: list[int] | None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """The mean of the converted numbers: the converter ignores ``dtype``, so it rounds integers."""
    if dtype in (None, x.dtype):
        return NotImplemented
    return aten.mean.dim(to_copy(x, dtype=dtype), dim, keepdim)


def power_of_two(base: float, exponent: torch.Tensor) -> torch.Tensor:
    """``exp2``: with a constant base of 2, Core ML squares the exponent (coremltools#2742)."""
    if base != 2 or not exponent.is_floating_point():
        return NotImplemented
    return aten.exp2.default(exponent)


def reciprocal(x: torch.Tensor) -> torch.Tensor:
    """``1 / x``: the converter computes ``1 / (x + 0.0001)`` (coremltools#2773)."""
    dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
    return aten.div.Tensor(aten.full.default([], 1, dtype=dtype), x)


REWRITES = {
    aten.atan2.default: atan2,
    aten.cosine_similarity.default: cosine_similarity,
    aten.hann_window.default: hann_window,
    aten.hann_window.periodic: hann_window,
    aten.mean.default: lambda x, dtype=None: mean(x, None, dtype=dtype),
    aten.mean.dim: mean,
    aten.pow.Scalar: power_of_two,
    aten.reciprocal.default: reciprocal,
}
