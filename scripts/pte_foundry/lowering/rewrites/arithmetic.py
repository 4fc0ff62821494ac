"""Rewrites of calls with arguments that the converter ignores or takes in another order."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from pte_foundry.upstream.torch_operators import OpOverload

aten = torch.ops.aten


def added_product(product: OpOverload) -> Callable[..., Any]:
    """The factors as products of their own: the converter multiplies floats by its integers."""

    def rewrite(
        x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, beta: float = 1, alpha: float = 1
    ) -> torch.Tensor:
        if (beta == 1 and alpha == 1) or not x.is_floating_point():
            return NotImplemented
        scaled = aten.mul.Tensor(product(a, b), float(alpha))
        return aten.add.Tensor(aten.mul.Tensor(x, float(beta)), scaled) if beta else scaled

    return rewrite


def clamp(
    x: torch.Tensor, least: torch.Tensor | None = None, most: torch.Tensor | None = None
) -> torch.Tensor:
    """``most`` after ``least``: the converter takes them in the other order, so ``least`` wins."""
    if least is None or most is None:
        return NotImplemented
    return aten.minimum.default(aten.maximum.default(x, least), most)


def cross(x: torch.Tensor, y: torch.Tensor, dim: int | None = None) -> torch.Tensor:
    """The product along the first dimension of three: the converter wants its number."""
    if dim is not None:
        return NotImplemented
    shape = torch.broadcast_shapes(x.shape, y.shape)
    return aten.cross.default(x, y, list(shape).index(3))


def elu(
    x: torch.Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1
) -> torch.Tensor:
    """The function with its scales, which the converter ignores."""
    if scale == 1 and input_scale == 1:
        return NotImplemented
    negative = aten.mul.Tensor(aten.expm1.default(aten.mul.Tensor(x, input_scale)), alpha * scale)
    return aten.where.self(aten.gt.Scalar(x, 0), aten.mul.Tensor(x, scale), negative)


def instance_norm(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    mean: torch.Tensor | None,
    variance: torch.Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> torch.Tensor:
    """A batch norm if the statistics are given: the converter ignores them."""
    if use_input_stats or mean is None:
        return NotImplemented
    return aten.batch_norm.default(
        x, weight, bias, mean, variance, False, momentum, eps, cudnn_enabled
    )


def nan_to_num(
    x: torch.Tensor, nan: float | None = None, most: float | None = None, least: float | None = None
) -> torch.Tensor:
    """An integer as it is, and a scalar as a vector: the converter scatters into a vector."""
    if not x.is_floating_point():
        return aten.clone.default(x)
    if x.dim():
        return NotImplemented
    vector = aten.reshape.default(x, [1])
    return aten.reshape.default(aten.nan_to_num.default(vector, nan, most, least), [])


def pad(
    x: torch.Tensor, widths: Sequence[int], mode: str = "constant", value: float | None = None
) -> torch.Tensor:
    """A slice where a width is negative: the converter pads only."""
    if mode != "constant" or all(width >= 0 for width in widths):
        return NotImplemented
    for number in range(len(widths) // 2):
        dim = x.dim() - 1 - number
        before, after = (max(-width, 0) for width in widths[2 * number : 2 * number + 2])
        if before or after:
            x = aten.slice.Tensor(x, dim, before, x.shape[dim] - after)
    widths = [max(width, 0) for width in widths]
    return aten.constant_pad_nd.default(x, widths, value or 0) if any(widths) else x


def rsub(x: torch.Tensor, other: torch.Tensor | float, alpha: float = 1) -> torch.Tensor:
    """The difference with its factor, which the converter ignores or refuses."""
    return NotImplemented if alpha == 1 else aten.add.Tensor(aten.mul.Tensor(x, -alpha), other)


def softplus(x: torch.Tensor, beta: float = 1, threshold: float = 20) -> torch.Tensor:
    """The number itself above a threshold that the converter ignores; from 20 it is the same."""
    if threshold >= 20:
        return NotImplemented
    above = aten.gt.Scalar(aten.mul.Tensor(x, beta), threshold)
    return aten.where.self(above, x, aten.softplus.default(x, beta))


def corrected(spread: OpOverload) -> Callable[..., Any]:
    """The unbiased estimate if no correction is given: the converter takes the biased one."""

    def rewrite(
        x: torch.Tensor,
        dim: Sequence[int] | None = None,
        *,
        correction: float | None = None,
        keepdim: bool = False,
    ) -> torch.Tensor:
        if correction is not None:
            return NotImplemented
        return spread(x, dim, correction=1, keepdim=keepdim)

    return rewrite


REWRITES = {
    aten.addmm.default: added_product(aten.mm.default),
    aten.baddbmm.default: added_product(aten.bmm.default),
    aten.clamp.Tensor: clamp,
    aten.clip.Tensor: clamp,
    aten.constant_pad_nd.default: lambda x, widths, value=0: pad(x, widths, "constant", value),
    aten.cross.default: cross,
    aten.elu.default: elu,
    aten.instance_norm.default: instance_norm,
    aten.nan_to_num.default: nan_to_num,
    aten.pad.default: pad,
    aten.rsub.Scalar: rsub,
    aten.rsub.Tensor: rsub,
    aten.softplus.default: softplus,
    aten.std.correction: corrected(aten.std.correction),
    aten.true_divide.Tensor: aten.div.Tensor,
    aten.var.correction: corrected(aten.var.correction),
}
