"""Rewrites of poolings."""

import math
import operator
from collections.abc import Callable, Sequence
from functools import partial

import torch

aten = torch.ops.aten

Pool = Callable[..., torch.Tensor]


def avg_pool(
    pool: Pool,
    x: torch.Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    rank: int,
) -> torch.Tensor:
    """Average pooling with windows that reach beyond the padding, or with a divisor of its own.

    torch divides the sum of such a window by the elements of the image and its padding in it. Core
    ML divides it by the whole kernel (measured: coremltools#2772, #2844), or, excluding padding, by
    the elements of the image alone. So the padding is made a part of the image, and excluded is
    what lies beyond. In 3d the converter knows only the second way, and nowhere a divisor.

    Args:
        pool: the operator, of ``rank`` spatial dimensions.
    """
    kernel, padding = _of_each(kernel_size, rank), _of_each(padding, rank)
    stride = _of_each(stride or kernel, rank)
    if divisor_override is None and not ceil_mode:
        return NotImplemented
    ends = _ends(x.shape[-rank:], kernel, stride, padding) if ceil_mode else None
    if divisor_override is not None:
        if ceil_mode and not ends:
            return NotImplemented  # the converter refuses it
        image, rest = (_padded(x, padding, ends), [0] * rank) if ends else (x, padding)
        ratio = math.prod(kernel) / divisor_override
        return aten.mul.Tensor(pool(image, kernel, stride, rest), ratio)
    image = _without_last_window(x, ends, padding)
    borders = [size + 2 * pad for size, pad in zip(image.shape[-rank:], padding, strict=True)]
    if count_include_pad and not (ends and all(map(operator.le, ends, borders))):
        stops = [min(each) for each in zip(ends or borders, borders, strict=True)]
        return pool(_padded(image, padding, stops), kernel, stride, [0] * rank, True, False)
    if image is x:
        return NotImplemented
    return pool(image, kernel, stride, padding, True, count_include_pad)


def max_pool(
    pool: Pool,
    x: torch.Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
    *,
    rank: int,
) -> torch.Tensor:
    """Maximum pooling in ceil mode without the window that torch does not have."""
    kernel, padding = _of_each(kernel_size, rank), _of_each(padding, rank)
    stride = _of_each(stride or kernel, rank)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, _of_each(dilation, rank), strict=True)]
    ends = _ends(x.shape[-rank:], reach, stride, padding) if ceil_mode else None
    image = _without_last_window(x, ends, padding)
    if image is x:
        return NotImplemented
    return pool(image, kernel, stride, padding, dilation, True)


def adaptive_avg_pool1d(x: torch.Tensor, output_size: Sequence[int]) -> torch.Tensor:
    """The mean of a dynamic length, which the converter cannot pool."""
    if list(output_size) != [1] or isinstance(x.shape[-1], int):
        return NotImplemented
    return aten.mean.dim(x, [-1], True)


def adaptive_max_pool1d(
    x: torch.Tensor, output_size: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The maximum of a dynamic length and its place, which the converter cannot pool."""
    if list(output_size) != [1] or isinstance(x.shape[-1], int):
        return NotImplemented
    return aten.max.dim(x, -1, True)


def _of_each(numbers: Sequence[int], rank: int) -> list[int]:
    return list(numbers) * (rank if len(numbers) == 1 else 1)


def _ends(
    sizes: Sequence[int], kernel: list[int], stride: list[int], padding: list[int]
) -> list[int] | None:
    """Where the last windows in ceil mode end, from the start of the padding; None if dynamic."""
    if not all(isinstance(size, int) for size in sizes):
        return None
    ends = []
    for size, length, step, pad in zip(sizes, kernel, stride, padding, strict=True):
        steps = -(-(size + 2 * pad - length) // step)
        if steps * step >= size + pad:  # torch has no window that starts in the right padding
            steps -= 1
        ends.append(steps * step + length)
    return ends


def _without_last_window(
    x: torch.Tensor, ends: list[int] | None, padding: list[int]
) -> torch.Tensor:
    """The image up to the end of torch's last window.

    The converter adds a window that starts behind an image without padding.
    """
    for dim, (end, pad) in enumerate(zip(ends or (), padding, strict=False), start=-len(padding)):
        if not pad and end < x.shape[dim]:
            x = aten.slice.Tensor(x, dim, 0, end)
    return x


def _padded(x: torch.Tensor, starts: list[int], ends: list[int]) -> torch.Tensor:
    """The image with zeros around it: ``starts`` of them to the left, up to a size of ``ends``."""
    widths: list[int] = []
    for dim, (start, end) in enumerate(zip(starts, ends, strict=True), start=x.dim() - len(starts)):
        missing = end - start - x.shape[dim]
        if isinstance(missing, int) and missing < 0:  # elements that are in no window
            x, missing = aten.slice.Tensor(x, dim, 0, end - start), 0
        widths = [start, missing, *widths]
    return aten.constant_pad_nd.default(x, widths) if any(widths) else x


REWRITES = {
    pool: partial(rewrite, pool, rank=rank)
    for rewrite, pools in (
        (avg_pool, (aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default)),
        (max_pool, (aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default)),
    )
    for rank, pool in enumerate(pools, start=1)
} | {
    aten.adaptive_avg_pool1d.default: adaptive_avg_pool1d,
    aten.adaptive_max_pool1d.default: adaptive_max_pool1d,
}
