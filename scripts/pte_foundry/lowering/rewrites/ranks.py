"""Rewrites of calls with fewer or more dimensions than the converter expects."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from pte_foundry.upstream.torch_operators import OpOverload

aten = torch.ops.aten


def with_batch(operator: OpOverload, rank: int) -> Callable[..., Any]:
    """A batch of one: the converter takes the channels of an input without batch for the batch.

    Args:
        rank: of an input with a batch.
    """

    def rewrite(x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if x.dim() != rank - 1:
            return NotImplemented
        result = operator(aten.unsqueeze.default(x, 0), *args, **kwargs)
        if torch.is_tensor(result):
            return aten.squeeze.dims(result, [0])
        return tuple(aten.squeeze.dims(output, [0]) for output in result)

    return rewrite


def matmul(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Vectors as matrices with one row or column: the converter fails on vectors."""
    if x.dim() == y.dim() == 1:
        return aten.sum.default(aten.mul.Tensor(x, y), dtype=x.dtype)
    if y.dim() == 1:
        return aten.squeeze.dims(aten.matmul.default(x, aten.unsqueeze.default(y, -1)), [-1])
    if x.dim() == 1:
        return aten.squeeze.dims(aten.matmul.default(aten.unsqueeze.default(x, 0), y), [-2])
    return NotImplemented


def tile(x: torch.Tensor, dims: Sequence[int]) -> torch.Tensor:
    """``repeat``: the converter refuses more numbers than dimensions, and none at all."""
    if not dims:
        return aten.clone.default(x)
    return aten.repeat.default(x, dims) if len(dims) > x.dim() else NotImplemented


def broadcast_tensors(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Expanded copies: as outputs ExecuTorch refuses tensors whose elements share memory."""
    shape = torch.broadcast_shapes(*(x.shape for x in tensors))
    return [aten.expand.default(x, shape) for x in tensors]


def meshgrid(tensors: Sequence[torch.Tensor], *, indexing: str = "ij") -> list[torch.Tensor]:
    """Expanded copies, as of :func:`broadcast_tensors`."""
    places = list(range(len(tensors)))
    if indexing == "xy" and len(tensors) > 1:
        places[:2] = 1, 0
    axes = []
    for place, x in zip(places, tensors, strict=True):
        axes.append(aten.reshape.default(x, [-1 if n == place else 1 for n in range(len(tensors))]))
    return broadcast_tensors(axes)


def masked_fill(operator: OpOverload) -> Callable[..., Any]:
    """Expands the values to the shape of a larger mask: the converter declares the smaller one."""

    def rewrite(x: torch.Tensor, mask: torch.Tensor, value: Any) -> torch.Tensor:
        shape = torch.broadcast_shapes(x.shape, mask.shape)
        if x.shape == shape:
            return NotImplemented
        return operator(aten.expand.default(x, shape), mask, value)

    return rewrite


def scatter(operator: OpOverload) -> Callable[..., Any]:
    """Scatters into the part of the tensor that the index covers: the converter wants all of it."""

    def rewrite(
        x: torch.Tensor, dim: int, index: torch.Tensor, source: Any, **kwargs: Any
    ) -> torch.Tensor:
        dim %= max(x.dim(), 1)
        smaller = [d for d in range(x.dim()) if d != dim and index.shape[d] != x.shape[d]]
        larger = torch.is_tensor(source) and source.shape != index.shape
        if not (smaller or larger):
            return NotImplemented
        if larger:
            for d, size in enumerate(index.shape):
                source = aten.slice.Tensor(source, d, 0, size)
        parts = [x]
        for d in smaller:
            parts.append(aten.slice.Tensor(parts[-1], d, 0, index.shape[d]))
        result = operator(parts.pop(), dim, index, source, **kwargs)
        for d in reversed(smaller):
            whole = parts.pop()
            rest = aten.slice.Tensor(whole, d, index.shape[d], whole.shape[d])
            result = aten.cat.default([result, rest], d)
        return result

    return rewrite


BATCHED = {
    f"{name}{rank}d": rank + 2
    for name in ("conv", "conv_transpose", "max_pool")
    for rank in (1, 2, 3)
} | {f"max_pool{rank}d_with_indices": rank + 2 for rank in (2, 3)}

REWRITES = {
    **{
        getattr(packet, overload): with_batch(getattr(packet, overload), rank)
        for packet, rank in ((getattr(aten, name), rank) for name, rank in BATCHED.items())
        for overload in packet.overloads()
        if overload in ("default", "padding", "input")
    },
    aten.broadcast_tensors.default: broadcast_tensors,
    aten.masked_fill.Scalar: masked_fill(aten.masked_fill.Scalar),
    aten.masked_fill.Tensor: masked_fill(aten.masked_fill.Tensor),
    aten.matmul.default: matmul,
    aten.meshgrid.default: meshgrid,
    aten.meshgrid.indexing: meshgrid,
    aten.tile.default: tile,
    **{
        op: scatter(op)
        for op in (
            aten.scatter.src,
            aten.scatter.value,
            aten.scatter.reduce,
            aten.scatter.value_reduce,
            aten.scatter_add.default,
        )
    },
}
