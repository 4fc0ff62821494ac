"""Rewrites of operators that move values without changing them."""

from collections.abc import Sequence

import torch

from pte_foundry.upstream.torch_operators import operator

aten = torch.ops.aten
to_copy = operator("aten._to_copy.default")


def pad(
    x: torch.Tensor, widths: Sequence[int], mode: str = "constant", value: float | None = None
) -> torch.Tensor:
    """A circular padding is a concatenation of slices: the converter has no such mode."""
    if mode != "circular" or any(width < 0 for width in widths):
        return NotImplemented
    for number, dim in enumerate(range(x.dim() - 1, x.dim() - 1 - len(widths) // 2, -1)):
        before, after = widths[2 * number : 2 * number + 2]
        size = x.shape[dim]
        parts = [x]
        if before:
            parts.insert(0, aten.slice.Tensor(x, dim, size - before, size))
        if after:
            parts.append(aten.slice.Tensor(x, dim, 0, after))
        x = aten.cat.default(parts, dim) if len(parts) > 1 else x
    return x


def roll(x: torch.Tensor, shifts: Sequence[int], dims: Sequence[int] = ()) -> torch.Tensor:
    """A rotation of all elements as one along the only dimension: the converter wants one."""
    if dims:
        return NotImplemented
    return aten.reshape.default(
        aten.roll.default(aten.reshape.default(x, [-1]), shifts, [0]), x.shape
    )


def scatter_value(x: torch.Tensor, dim: int, index: torch.Tensor, value: float) -> torch.Tensor:
    """A number in a dynamic number of places as a tensor: the converter wants a fixed number."""
    if all(isinstance(size, int) for size in index.shape):
        return NotImplemented
    zeros = aten.mul.Scalar(to_copy(index, dtype=x.dtype), 0)
    return aten.scatter.src(x, dim, index, aten.add.Scalar(zeros, value))


REWRITES = {
    aten.pad.default: pad,
    aten.roll.default: roll,
    aten.scatter.value: scatter_value,
}
