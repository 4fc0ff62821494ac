"""Pooling in one to three dimensions (``iOS15/pool.py``)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pte_foundry.mil.ops.conv import pad_spatial, paddings
from pte_foundry.mil.parameters import Ints, Upcast
from pte_foundry.mil.registry import op

_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
Pads = list[tuple[int, int]]


def _windows(
    x: Tensor, kernels: Ints, strides: Ints, pad_type: str, pad: Ints | None, ceil_mode: bool
) -> tuple[Pads, Pads]:
    """The padding, and the elements beyond it that the last windows of ceil mode cover.

    The number of windows is that of coremltools (``_utils.py``, ``spatial_dimensions_out_shape``):
    unlike in torch, a window that begins behind the input is dropped only if there is padding.
    """
    sizes = list(x.shape[2:])
    pads = paddings(pad_type, sizes, kernels, strides, pad)
    beyond = []
    for size, kernel, stride, (before, after) in zip(sizes, kernels, strides, pads, strict=True):
        span = size + before + after - kernel
        count = span // stride + 1
        if ceil_mode:
            count = -(-span // stride) + 1
            total = before + after
            if (count - 1) * stride >= size + total / 2 and total > 0:
                count -= 1
        beyond.append((0, max(0, (count - 1) * stride - span)))
    return pads, beyond


@op("max_pool")
def max_pool(
    *,
    x: Upcast,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    strides = strides or [1] * len(kernel_sizes)
    pads, beyond = _windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    x = pad_spatial(pad_spatial(x, pads, -math.inf), beyond, -math.inf)
    return _MAX_POOL[x.ndim - 2](x, kernel_sizes, strides)


@op("avg_pool")
def avg_pool(
    *,
    x: Upcast,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Tensor:
    strides = strides or [1] * len(kernel_sizes)
    pads, beyond = _windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    pool = _AVG_POOL[x.ndim - 2]
    average = pool(pad_spatial(pad_spatial(x, pads), beyond), kernel_sizes, strides)
    if not exclude_padding_from_average:
        # Zeros beyond the input count, also those that only ceil mode adds: torch does not count
        # them. Measured on a Mac by the reporter of apple/coremltools#2772 and its repair #2844:
        # the last window of arange(3) with kernel and stride 2 is 2 / 2.
        return average
    inside = pad_spatial(pad_spatial(torch.ones_like(x[:1, :1]), pads), beyond)
    return average / pool(inside, kernel_sizes, strides)


@op("l2_pool")
def l2_pool(
    *,
    x: Upcast,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    strides = strides or [1] * len(kernel_sizes)
    pads, beyond = _windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    squares = pad_spatial(pad_spatial(x * x, pads), beyond)
    mean = _AVG_POOL[x.ndim - 2](squares, kernel_sizes, strides)
    return (mean * math.prod(kernel_sizes)).sqrt()
