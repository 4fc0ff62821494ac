"""Rewrites of selections by a condition.

Core ML selects elements of two tensors. The converter broadcasts them to the result's shape if that
is static, and otherwise takes the shape of the first.
"""

import torch

from pte_foundry.upstream.torch_operators import operator

aten = torch.ops.aten
to_copy = operator("aten._to_copy.default")

Number = bool | int | float


def where(condition: torch.Tensor, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """A selection between scalars as one between vectors: the converter refuses scalars.

    Where the shape is dynamic and no operand has all of it, the first one is made to.
    """
    if not (condition.dim() or x.dim() or other.dim()):
        vectors = (aten.reshape.default(scalar, [1]) for scalar in (condition, x, other))
        return aten.reshape.default(aten.where.self(*vectors), [])
    shape = torch.broadcast_shapes(condition.shape, x.shape, other.shape)
    static = all(isinstance(size, int) for size in shape)
    if static or x.dtype == torch.bool or _same(shape, x.shape) or _same(shape, other.shape):
        return NotImplemented
    x = aten.add.Tensor(x, _zeros(condition, x.dtype))
    if not _same(shape, x.shape):  # nor have the two of them together
        x = aten.add.Tensor(x, aten.mul.Scalar(aten.ne.Tensor(other, other), 0))
    return aten.where.self(condition, x, other)


def where_scalars(condition: torch.Tensor, x: Number, other: Number) -> torch.Tensor:
    """A selection between numbers as one between tensors, of a dynamic shape or of none."""
    if condition.dim() and all(isinstance(size, int) for size in condition.shape):
        return NotImplemented
    dtype = torch.result_type(torch.tensor(x), torch.tensor(other))
    if dtype == torch.bool:
        return NotImplemented
    chosen = aten.add.Scalar(_zeros(condition, dtype), x)
    return aten.where.self(condition, chosen, aten.full.default([], other, dtype=dtype))


def where_scalar_self(condition: torch.Tensor, x: Number, other: torch.Tensor) -> torch.Tensor:
    """A selection whose number has the tensor's dtype: the converter refuses two dtypes."""
    dtype = torch.result_type(other, x)
    number = aten.full.default([], x, dtype=dtype)
    return aten.where.self(condition, number, to_copy(other, dtype=dtype))


def where_scalar_other(condition: torch.Tensor, x: torch.Tensor, other: Number) -> torch.Tensor:
    """Like :func:`where_scalar_self`, with the number where the condition is false."""
    dtype = torch.result_type(x, other)
    if dtype == x.dtype and other == 0:  # as triangles are written
        return NotImplemented
    number = aten.full.default([], other, dtype=dtype)
    return aten.where.self(condition, to_copy(x, dtype=dtype), number)


def _zeros(condition: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Zeros of the condition's shape, without an operator that needs the shape itself."""
    return aten.mul.Scalar(to_copy(condition, dtype=dtype), 0)


def _same(shape: torch.Size, other: torch.Size) -> bool:
    """Whether two shapes are equal, without a guard on their symbols."""
    return list(map(str, shape)) == list(map(str, other))


REWRITES = {
    aten.where.self: where,
    aten.where.Scalar: where_scalars,
    aten.where.ScalarOther: where_scalar_other,
    aten.where.ScalarSelf: where_scalar_self,
}
