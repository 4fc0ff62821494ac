"""Rewrites of normalizations."""

import math

import torch

aten = torch.ops.aten

SMALLEST = 2.0**-14  # the smallest normal number of float16


def rms_norm(
    x: torch.Tensor,
    normalized_shape: list[int],
    weight: torch.Tensor | None = None,
    eps: float | None = None,
) -> torch.Tensor:
    """``x / sqrt(mean(x²) + eps)``, divided by a scale so that no square leaves float16.

    The converter scales as well, by ``m = max|x|``, but adds ``eps`` where ``eps / m²`` belongs,
    gives NaN for a row of zeros (coremltools#2821), and refuses a call without ``eps``. Here the
    scale is at least ``sqrt(eps)``: then ``eps / m²`` is at most 1, also for tiny ``x``, and where
    it underflows the mean, which is at least ``1 / n`` with ``m = max|x|``, is far above it.
    """
    dims = list(range(-len(normalized_shape), 0))
    root = math.sqrt(torch.finfo(x.dtype).eps if eps is None else eps)
    scale = aten.clamp.default(
        aten.amax.default(aten.abs.default(x), dims, True), max(root, SMALLEST)
    )
    scaled = aten.div.Tensor(x, scale)
    mean = aten.mean.dim(aten.mul.Tensor(scaled, scaled), dims, True)
    share = aten.div.Tensor(aten.full.default([], root, dtype=x.dtype, device=x.device), scale)
    root_mean_square = aten.mul.Tensor(
        aten.sqrt.default(aten.add.Tensor(mean, aten.mul.Tensor(share, share))), scale
    )
    normalized = aten.div.Tensor(x, root_mean_square)
    return normalized if weight is None else aten.mul.Tensor(normalized, weight)


REWRITES = {aten.rms_norm.default: rms_norm}
