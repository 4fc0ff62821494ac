"""Rewrites of poolings."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch

aten = torch.ops.aten


def avg_pool(
    pool: Callable[..., torch.Tensor],
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
    sizes = list(x.shape[-rank:])
    static = all(isinstance(size, int) for size in sizes)
    if divisor_override is not None:
        ratio = math.prod(kernel) / divisor_override
        if not ceil_mode:
            return aten.mul.Tensor(pool(x, kernel, stride, padding), ratio)
        if not static:
            return NotImplemented  # the converter refuses it
        ends = [_end(*each) for each in zip(sizes, kernel, stride, padding, strict=True)]
        return aten.mul.Tensor(pool(_padded(x, padding, ends), kernel, stride), ratio)
    if not (ceil_mode and count_include_pad):
        return NotImplemented
    ends = [size + 2 * pad for size, pad in zip(sizes, padding, strict=True)]
    if static:
        last = [_end(*each) for each in zip(sizes, kernel, stride, padding, strict=True)]
        if all(window <= end for window, end in zip(last, ends, strict=True)):
            return NotImplemented
        ends = [min(each) for each in zip(last, ends, strict=True)]
    return pool(_padded(x, padding, ends), kernel, stride, [0] * rank, True, False)


def _of_each(numbers: Sequence[int], rank: int) -> list[int]:
    return list(numbers) * (rank if len(numbers) == 1 else 1)


def _end(size: int, kernel: int, stride: int, pad: int) -> int:
    """Where the last window of a ceil mode pooling ends, from the start of the left padding."""
    steps = -(-(size + 2 * pad - kernel) // stride)
    if steps * stride >= size + pad:  # torch has no window that starts in the right padding
        steps -= 1
    return steps * stride + kernel


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
    aten.avg_pool1d.default: partial(avg_pool, aten.avg_pool1d.default, rank=1),
    aten.avg_pool2d.default: partial(avg_pool, aten.avg_pool2d.default, rank=2),
    aten.avg_pool3d.default: partial(avg_pool, aten.avg_pool3d.default, rank=3),
}
