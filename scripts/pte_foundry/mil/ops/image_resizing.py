"""Resizing and sampling of images (``iOS15``, ``iOS16`` and ``iOS17/image_resizing.py``).

Apple documents the sampling positions in three places: ``resize_bilinear``, which this module
follows; ``SamplingMode`` in the older ``NeuralNetwork.proto``, without UNALIGN_CORNERS; and the
pages on ``BNNSLinearSamplingMode``. They agree, except for the page on aligned corners, which
repeats the spacing of the default mode. Where they are silent, this module follows the numbers in
coremltools' tests (``mil/ops/tests/iOS14`` to ``iOS17/test_image_resizing.py``), which on a Mac
compare with Core ML, and the settings of torch and TensorFlow that coremltools' frontends
translate; a comment at each choice names the source.

Positions are computed in fp64, so that halves are halves; pixels are blended in fp32.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from pte_foundry.mil.parameters import Ints, Upcast
from pte_foundry.mil.registry import op


def grid(mode: str, start: Tensor, end: Tensor, count: int) -> Tensor:
    """Positions of ``count`` samples between the pixels ``start`` and ``end``, both included.

    Args:
        start: fp64, ``[..., 1]``.
        end: as ``start``; if it is smaller, the samples run backwards.

    Returns:
        fp64 ``[..., count]``, all within the interval.

    Raises:
        ValueError: unknown mode.
    """
    i, extent = torch.arange(count, dtype=torch.float64), (end - start).abs()
    size = extent + 1
    # One division at the end: the dividends are integers, so that ties of rounding are exact.
    match mode:
        case "ALIGN_CORNERS" if count == 1:
            offset = extent / 2
        case "STRICT_ALIGN_CORNERS" | "ALIGN_CORNERS":
            offset = i * extent / max(count - 1, 1)
        case "DEFAULT":
            offset = i * size / count
        case "OFFSET_CORNERS":
            offset = (2 * i + 1) * extent.clamp(min=1) / (2 * count)
        case "UNALIGN_CORNERS":
            offset = ((2 * i + 1) * size - count) / (2 * count)
        case _:
            raise ValueError(f"unknown sampling_mode {mode!r}")
    points = start + torch.sign(end - start) * offset
    return points.maximum(torch.minimum(start, end)).minimum(torch.maximum(start, end))


def _points(mode: str, size: int, count: int) -> Tensor:
    """The :func:`grid` of a whole axis of ``size`` pixels, ``[count]``."""
    ends = torch.tensor([0.0, size - 1], dtype=torch.float64)
    return grid(mode, ends[:1], ends[1:], count)


def _take(x: Tensor, axis: int, index: Tensor) -> Tensor:
    """``x.index_select(axis, index)`` for a negative axis."""
    if axis == -1:  # torch's gather is twice as fast there
        return x.gather(-1, index.expand(*x.shape[:-1], -1))
    return x.index_select(axis, index)


def _last_axes(sizes: Ints) -> Iterable[tuple[int, int]]:
    """Axis and new size of the last dimensions, the very last first.

    The last axis is slow to resize, so it comes first, while a growing image is still small.
    """
    return zip(range(-1, -1 - len(sizes), -1), reversed(sizes), strict=True)


def _linear(x: Tensor, mode: str, sizes: Ints) -> Tensor:
    """Resize the last dimensions by linear interpolation along each."""
    for axis, count in _last_axes(sizes):
        points = _points(mode, x.shape[axis], count)
        lower = points.to(torch.int64)
        weights = (points - lower).to(x.dtype)
        resized = _take(x, axis, lower)
        if weights.any():
            upper = (lower + 1).clamp(max=x.shape[axis] - 1)
            resized.lerp_(_take(x, axis, upper), weights.view(-1, *[1] * (-1 - axis)))
        x = resized
    return x


def _nearest(x: Tensor, mode: str, sizes: Ints) -> Tensor:
    """Resize the last dimensions to the pixel nearest to each point, halves upwards."""
    for axis, count in _last_axes(sizes):
        x = _take(x, axis, (_points(mode, x.shape[axis], count) + 0.5).to(torch.int64))
    return x


def _scaled(x: Tensor, *factors: float) -> Ints:
    """Sizes of the last dimensions times fp32 factors, rounded down as in coremltools."""
    sizes = x.shape[-len(factors) :]
    return [
        int(torch.tensor(factor, dtype=torch.float32) * size)
        for factor, size in zip(factors, sizes, strict=True)
    ]


@op("upsample_nearest_neighbor", sized=True)
def upsample_nearest_neighbor(
    *, x: Tensor, scale_factor_height: float = 1, scale_factor_width: float = 1
) -> Tensor:
    # Pixel floor(i * size / new size): torch's "nearest" with a size and TensorFlow's without half
    # pixel centers, which both become this operation. The factor determines the new size only, as
    # in upsample_bilinear: with 1.12 the test for iOS15 takes three of three pixels, not 0, 0, 1.
    for axis, count in _last_axes(_scaled(x, scale_factor_height, scale_factor_width)):
        x = _take(x, axis, torch.arange(count) * x.shape[axis] // max(count, 1))
    return x


@op("resize_nearest_neighbor", sized=True)
def resize_nearest_neighbor(
    *, x: Tensor, target_size_height: int, target_size_width: int
) -> Tensor:
    # With half pixel centers, unlike upsample_nearest_neighbor: TensorFlow's frontend selects
    # between the two by that, and 2 pixels become 0, 1, 1 in the tests of iOS17's resize.
    return _nearest(x, "UNALIGN_CORNERS", [target_size_height, target_size_width])


@op("upsample_bilinear", sized=True)
def upsample_bilinear(
    *,
    x: Upcast,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
) -> Tensor:
    return upsample_bilinear_16(
        x=x,
        scale_factor_height=scale_factor_height,
        scale_factor_width=scale_factor_width,
        align_corners=align_corners,
    )


@op("upsample_bilinear", since="iOS16", sized=True)
def upsample_bilinear_16(
    *,
    x: Upcast,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Tensor:
    if half_pixel_centers is None:
        half_pixel_centers = not align_corners
    match align_corners, half_pixel_centers:
        case True, False:
            mode = "STRICT_ALIGN_CORNERS"
        case False, True:
            mode = "UNALIGN_CORNERS"
        case False, False:
            mode = "DEFAULT"
        case _:
            raise ValueError("align_corners and half_pixel_centers exclude each other")
    return _linear(x, mode, _scaled(x, scale_factor_height, scale_factor_width))


@op("resize_bilinear", sized=True)
def resize_bilinear(
    *,
    x: Upcast,
    target_size_height: int = 1,
    target_size_width: int = 1,
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    return _linear(x, sampling_mode, [target_size_height, target_size_width])


@op("resize", since="iOS17", sized=True)
def resize(
    *,
    x: Upcast,
    shape: Ints,
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    if not 0 <= resized_dims <= min(len(shape), x.ndim):
        raise ValueError(f"cannot resize {resized_dims} dimensions of {x.ndim} to {shape}")
    olds = x.shape[x.ndim - resized_dims :]
    sizes = [new or old for new, old in zip(shape[len(shape) - resized_dims :], olds, strict=True)]
    match interpolation_mode:
        case "NEAREST_NEIGHBOR":
            # DEFAULT is that of resize_nearest_neighbor (see there), not that of linear
            # interpolation, which takes other pixels when 2 become 6. For other modes: the pixel
            # nearest to the same points, halves upwards as in TensorFlow with aligned corners.
            mode = "UNALIGN_CORNERS" if sampling_mode == "DEFAULT" else sampling_mode
            return _nearest(x, mode, sizes)
        case "LINEAR" if x.is_floating_point():
            return _linear(x, sampling_mode, sizes)
        case "LINEAR":
            # The rounding of integers is undocumented: towards zero here, as in `cast`. fp64 holds
            # all of int32. Rounding to 2**-20 first keeps an integer sum from losing a unit.
            exact = _linear(x.double(), sampling_mode, sizes)
            return exact.mul_(2**20).round_().div_(2**20).to(x.dtype)
    raise ValueError(f"unknown interpolation_mode {interpolation_mode!r}")


@op("crop")
def crop(*, x: Tensor, crop_height: Ints, crop_width: Ints) -> Tensor:
    (top, bottom), (left, right) = crop_height, crop_width
    height, width = x.shape[-2:]
    return x.narrow(-2, top, height - top - bottom).narrow(-1, left, width - left - right)
