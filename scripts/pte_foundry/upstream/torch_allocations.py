"""The size of what an operator of torch allocates, known before it does.

Stands against: torch 2.13.0
Uses: ``torch.utils._python_dispatch.TorchDispatchMode``, which sees every operator before it runs,
    and its ``_should_skip_dynamo``, which otherwise imports all of ``torch._dynamo``.
Remove when: torch limits the memory of the CPU, as it does that of CUDA.

Sizes are in elements. An operator without a rule has results of the shape that its arguments
broadcast to, or if they do not, not more elements than all of them together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

SMALL = 1 << 16
"""Elements; smaller results are not reported."""


class Allocations(TorchDispatchMode):
    """Within it, ``report`` is called with the bytes of each large result before it is computed.

    Args:
        report: may raise, to keep the operator from running.
    """

    def __init__(self, report: Callable[[int], None]) -> None:
        super().__init__()
        self._report = report

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or torch._dynamo is imported, which takes seconds; nothing is compiled here

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not func.is_view:
            tensors = _tensors([*args, *kwargs.values()])
            rule = _RULES.get(func.overloadpacket.__name__)
            count = _default(tensors) if rule is None else _ruled(rule, args, tensors)
            if count > SMALL:
                self._report(count * _itemsize(tensors, kwargs))
        return func(*args, **kwargs)


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found.extend(item for item in value if isinstance(item, Tensor))
    return found


def _itemsize(tensors: list[Tensor], kwargs: dict[str, Any]) -> int:
    dtype = kwargs.get("dtype") or torch.get_default_dtype()
    return max([t.itemsize for t in tensors], default=dtype.itemsize)


def _default(tensors: list[Tensor]) -> int:
    if len(tensors) == 1:
        return tensors[0].numel()
    rank = max((t.dim() for t in tensors), default=0)
    shape = [1] * rank
    for tensor in tensors:
        for axis, size in enumerate(tensor.shape, start=rank - tensor.dim()):
            if size != 1:
                if shape[axis] not in (1, size):
                    return sum(t.numel() for t in tensors)
                shape[axis] = size
    return math.prod(shape)


def _ruled(rule: Callable[..., float], args: Sequence[Any], tensors: list[Tensor]) -> int:
    try:
        count = rule(*args)
    except Exception:  # wrong or left out arguments: the operator itself will tell
        return _default(tensors)
    return int(count) if 0 <= count < math.inf else 0  # of invalid arguments


def _steps(start: float, end: float | None = None, step: float = 1, *_: Any) -> float:
    start, end = (0, start) if end is None else (start, end)
    return (end - start) / step + 1


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool = False,
    output_padding: Sequence[int] = (0,),
    groups: int = 1,
    *_: Any,
) -> int:
    def each(values: Sequence[int]) -> Sequence[int]:
        return values if len(values) > 1 else [*values] * (weight.dim() - 2)

    spatial = zip(
        x.shape[2 - weight.dim() :],
        weight.shape[2:],
        *map(each, (stride, padding, dilation, output_padding)),
        strict=True,
    )
    sizes = [
        (n - 1) * s - 2 * p + d * (k - 1) + o + 1 if transposed else (n + 2 * p) // max(s, 1) + 1
        for n, k, s, p, d, o in spatial
    ]
    channels = weight.shape[1] * groups if transposed else weight.shape[0]
    # What is padded may be copied, with the channels of the argument.
    padded = math.prod(n + 2 * p for n, p in zip(x.shape[2:], each(padding), strict=False))
    batch = x.shape[0] if x.dim() == weight.dim() else 1
    return batch * max(channels * math.prod(sizes), 0 if transposed else x.shape[1] * padded)


def _pooled(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    *_: Any,
) -> int:
    pads = padding if len(padding) > 1 else [*padding] * len(kernel)
    strides = stride or kernel
    strides = strides if len(strides) > 1 else [*strides] * len(pads)
    sizes = [
        (n + 2 * p) // max(s, 1) + 2
        for n, p, s in zip(x.shape[-len(pads) :], pads, strides, strict=True)
    ]
    return math.prod([*x.shape[: -len(pads)], *sizes])


def _padded(x: Tensor, pad: Sequence[int], *_: Any) -> int:
    sizes = list(x.shape)
    for axis, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True), start=1):
        sizes[-axis] += before + after
    return math.prod(sizes)


def _spatial(x: Tensor, size: Sequence[int], *_: Any) -> int:
    return math.prod([*x.shape[: x.dim() - len(size)], *size])


def _scaled(x: Tensor, size: Sequence[int] | None, *rest: Any) -> float:
    if size is not None:
        return _spatial(x, size)
    scales = next(part for part in reversed(rest) if isinstance(part, list | tuple))
    return math.prod([*x.shape, *scales])


def _selected(x: Tensor, axis: int, index: Tensor, *_: Any) -> int:
    return x.numel() // max(x.shape[axis], 1) * index.numel() if x.dim() else index.numel()


def _indexed(x: Tensor, indices: Sequence[Tensor | None], *_: Any) -> int:
    given = [index for index in indices if index is not None]
    taken = [n for n, index in zip(x.shape, indices, strict=False) if index is not None]
    rest = x.numel() // max(math.prod(taken), 1)
    if any(index.dtype in (torch.bool, torch.uint8) for index in given):
        return max(index.numel() for index in given) * rest
    return _default(given) * rest


def _product(first: Tensor, second: Tensor, *_: Any) -> int:
    """Of matrices, with their batches."""
    batch = math.prod(first.shape[:-2])
    return batch * first.shape[-2] * second.shape[-1]


def _joined(tensors: Sequence[Tensor], *_: Any) -> int:
    return sum(tensor.numel() for tensor in tensors)


def _pairs(first: Tensor, second: Tensor | None = None, *_: Any) -> int:
    other = first if not isinstance(second, Tensor) else second
    return math.prod(first.shape[:-2]) * first.shape[-2] * other.shape[-2]


def _sized(size: Sequence[int], *_: Any) -> int:
    return math.prod(size)


def _resized(x: Tensor, size: Sequence[int], *_: Any) -> int:
    return math.prod(
        [n if s == -1 else s for s, n in zip(size, [x.numel()] * len(size), strict=True)]
    )


def _unfolded(x: Tensor, axis: int, size: int, step: int) -> int:
    return x.numel() * size


def _rule(rule: Callable[..., float], names: str) -> dict[str, Callable[..., float]]:
    return dict.fromkeys(names.split(), rule)


_RULES: dict[str, Callable[..., float]] = {
    **_rule(_sized, "empty full ones rand randn zeros empty_strided"),
    **_rule(_resized, "new_empty new_empty_strided new_full new_ones new_zeros expand_copy"),
    **_rule(lambda x, size, *_: math.prod(size), "as_strided_copy"),
    **_rule(_steps, "arange range"),
    **_rule(lambda start, end, steps, *_: steps, "linspace logspace"),
    **_rule(lambda x, *_: x.numel() * max(x.dim(), 1), "nonzero"),
    **_rule(lambda n, m=None, *_: n * (n if m is None else m), "eye"),
    **_rule(lambda x, repeats: x.numel() * math.prod(repeats), "repeat"),
    **_rule(lambda repeats, *_: int(repeats.sum()), "repeat_interleave"),
    **_rule(_convolution, "convolution _convolution"),
    **_rule(_pooled, "avg_pool1d avg_pool2d avg_pool3d"),
    **_rule(_pooled, "max_pool2d_with_indices max_pool3d_with_indices"),
    **_rule(_padded, "constant_pad_nd"),
    **_rule(_padded, "reflection_pad1d reflection_pad2d reflection_pad3d"),
    **_rule(_padded, "replication_pad1d replication_pad2d replication_pad3d"),
    **_rule(_scaled, "upsample_nearest1d upsample_nearest2d upsample_nearest3d"),
    **_rule(_scaled, "upsample_bilinear2d _upsample_bilinear2d_aa upsample_bicubic2d"),
    **_rule(_spatial, "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d"),
    **_rule(_selected, "index_select"),
    **_rule(lambda x, axis, index, *_: index.numel(), "gather"),
    **_rule(_indexed, "index"),
    **_rule(lambda x, index, *_: _selected(x, 0, index), "embedding"),
    **_rule(_product, "mm bmm"),
    **_rule(lambda x, *rest: _product(*rest), "addmm baddbmm"),
    **_rule(lambda x, y, *_: x.numel() * y.numel(), "outer ger kron"),
    **_rule(_pairs, "_cdist_forward _euclidean_dist _pdist_forward"),
    **_rule(_joined, "cat stack"),
    **_rule(lambda x, grid, *_: x.shape[0] * x.shape[1] * grid.numel(), "grid_sampler_2d"),
    **_rule(_unfolded, "unfold_copy"),
}
