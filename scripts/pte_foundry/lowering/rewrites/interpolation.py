"""Rewrites of resampling as matrix products.

A resampling to a static size is linear along each axis, with weights that depend on sizes and
scales alone; Core ML's converter folds them to constants.
"""

from collections.abc import Callable, Sequence

import torch

from pte_foundry.upstream.torch_operators import operator

aten = torch.ops.aten

Filter = Callable[[torch.Tensor], torch.Tensor]


def _triangle(distance: torch.Tensor) -> torch.Tensor:
    return (1 - distance).relu()


def _cubic(distance: torch.Tensor) -> torch.Tensor:
    """Keys' cubic with a = -0.5, as PIL and torch use it for antialiasing."""
    near = ((1.5 * distance - 2.5) * distance) * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, distance * 0))


def antialiased(
    kernel: Filter,
    x: torch.Tensor,
    output_size: Sequence[int],
    align_corners: bool,
    factors: Sequence[float | None],
) -> torch.Tensor:
    """A resampling with ``antialias=True``, which the converter drops without a word.

    torch computes centers as if corners were not aligned, but with the scale of aligned ones.
    """

    def weights(size: int, wanted: int, factor: float | None) -> torch.Tensor:
        if align_corners:
            scale = (size - 1) / (wanted - 1) if wanted > 1 else 0.0
        else:
            scale = 1 / factor if factor else size / wanted
        centers = (torch.arange(wanted) + 0.5) * scale - 0.5
        distance = (torch.arange(size) - centers[:, None]).abs() / max(scale, 1.0)
        found = kernel(distance)
        return found / found.sum(1, keepdim=True)

    return _product(x, output_size, factors, weights, "antialias=True")


def linear(
    x: torch.Tensor,
    output_size: Sequence[int] | None,
    align_corners: bool,
    factors: Sequence[float] | None,
) -> torch.Tensor:
    """A linear resampling by a factor that does not give a whole size: the converter refuses it."""
    sizes = x.shape[-len(factors or ()) :]
    whole = all(s * f == int(s * f) for s, f in zip(sizes, factors or (), strict=False))
    if factors is None or align_corners or whole:
        return NotImplemented

    def weights(size: int, wanted: int, factor: float) -> torch.Tensor:
        centers = ((torch.arange(wanted) + 0.5) / factor - 0.5).clamp(0, size - 1)
        return _triangle((torch.arange(size) - centers[:, None]).abs())

    output_size = [int(size * factor) for size, factor in zip(sizes, factors, strict=True)]
    return _product(x, output_size, factors, weights, "a fractional scale_factor")


def _product(
    x: torch.Tensor,
    output_size: Sequence[int],
    factors: Sequence[float | None],
    weights: Callable[..., torch.Tensor],
    what: str,
) -> torch.Tensor:
    """The last dimensions of ``x`` times a matrix each: a row for every element that is wanted."""
    sizes = x.shape[-len(output_size) :]
    if not all(isinstance(size, int) for size in (*sizes, *output_size)):
        raise NotImplementedError(
            f"interpolate() with {what} and a dynamic size has no counterpart in Core ML. Give the "
            "input a static height and width, or call it with antialias=False and size="
        )
    *outer, last = (weights(*each) for each in zip(sizes, output_size, factors, strict=True))
    x = aten.matmul.default(x, aten.permute.default(last, [1, 0]))
    return aten.matmul.default(outer[0], x) if outer else x


def _by_scales(kernel: Filter) -> Callable[..., torch.Tensor]:
    def rewrite(
        x: torch.Tensor,
        output_size: Sequence[int],
        align_corners: bool,
        scales_h: float | None = None,
        scales_w: float | None = None,
    ) -> torch.Tensor:
        return antialiased(kernel, x, output_size, align_corners, (scales_h, scales_w))

    return rewrite


def _by_factors(kernel: Filter) -> Callable[..., torch.Tensor]:
    def rewrite(
        x: torch.Tensor,
        output_size: Sequence[int] | None,
        align_corners: bool,
        scale_factors: Sequence[float] | None,
    ) -> torch.Tensor:
        factors = list(scale_factors or (None, None))
        if output_size is None:
            output_size = [int(s * f) for s, f in zip(x.shape[-2:], factors, strict=True)]
        return antialiased(kernel, x, output_size, align_corners, factors)

    return rewrite


REWRITES = {
    operator("aten._upsample_bilinear2d_aa.default"): _by_scales(_triangle),
    operator("aten._upsample_bilinear2d_aa.vec"): _by_factors(_triangle),
    operator("aten._upsample_bicubic2d_aa.default"): _by_scales(_cubic),
    operator("aten._upsample_bicubic2d_aa.vec"): _by_factors(_cubic),
    aten.upsample_bilinear2d.vec: linear,
    aten.upsample_linear1d.vec: linear,
}
