"""Rewrites of sampling at places that the converter computes in another way, or not at all."""

from collections.abc import Sequence

import torch

from pte_foundry.upstream import torch_operators

aten = torch.ops.aten
to_copy = torch_operators.operator("aten._to_copy.default")


def affine_grid(theta: torch.Tensor, size: Sequence[int], align_corners: bool) -> torch.Tensor:
    """The product of the coordinates and the matrix: the converter fuses it with a sampler only."""
    sizes = size[2:]
    axes = [torch.linspace(-1, 1, s) if s > 1 else torch.zeros(s) for s in sizes]
    if not align_corners:
        axes = [axis * ((s - 1) / s) for axis, s in zip(axes, sizes, strict=True)]
    rows = [
        axis.reshape([-1 if n == dim else 1 for n in range(len(sizes))]).expand(sizes).reshape(-1)
        for dim, axis in enumerate(axes)
    ]
    places = torch.stack([*reversed(rows), torch.ones_like(rows[0])], -1)
    grid = aten.matmul.default(places, aten.permute.default(theta, [0, 2, 1]))
    return aten.reshape.default(grid, [size[0], *sizes, len(sizes)])


def nearest(
    x: torch.Tensor, sizes: Sequence[int] | None, factors: Sequence[float] | None
) -> torch.Tensor:
    """The elements at ``floor(i / factor)``: Core ML's are those at ``i * size / new size``."""
    if sizes is not None or factors is None:
        return NotImplemented
    rank = len(factors)
    old = list(x.shape[-rank:])
    if not all(isinstance(size, int) for size in old):
        return NotImplemented
    if all((size * factor).is_integer() for size, factor in zip(old, factors, strict=True)):
        return NotImplemented
    for dim, (size, factor) in enumerate(zip(old, factors, strict=True), start=-rank):
        places = aten.mul.Tensor(aten.arange.default(int(size * factor)), 1 / factor)
        index = to_copy(aten.floor.default(places), dtype=torch.int64)
        x = aten.index_select.default(x, dim, aten.clamp.default(index, 0, size - 1))
    return x


REWRITES = {
    aten.affine_grid_generator.default: affine_grid,
    aten.upsample_nearest1d.vec: nearest,
    aten.upsample_nearest2d.vec: nearest,
}
