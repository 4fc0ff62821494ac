"""Making, joining and ordering tensors (``iOS15``, ``iOS16`` and ``iOS17/tensor_operation.py``)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pte_foundry.formats.mil_dtypes import BY_NAME
from pte_foundry.mil.parameters import Ints, Tensors, Upcast
from pte_foundry.mil.registry import op

_ZERO = torch.zeros(())
_ZERO_INT, _ONE_INT = torch.zeros((), dtype=torch.int32), torch.ones((), dtype=torch.int32)


@op("band_part")
def band_part(*, x: Tensor, lower: int = -1, upper: int = -1) -> Tensor:
    rows, columns = x.shape[-2:]
    below = torch.arange(rows)[:, None] - torch.arange(columns)
    keep = ((below <= lower) | (lower < 0)) & ((-below <= upper) | (upper < 0))
    return torch.where(keep, x, torch.zeros((), dtype=x.dtype))


@op("concat")
def concat(*, values: Tensors, axis: int, interleave: bool = False) -> Tensor:
    if values[0].ndim == 0:
        return torch.stack(values)
    if interleave:
        # Element i of every tensor, then element i + 1 of every tensor.
        return torch.stack(values, axis % values[0].ndim + 1).flatten(
            axis % values[0].ndim, axis % values[0].ndim + 1
        )
    return torch.cat(values, axis)


@op("cumsum")
def cumsum(*, x: Upcast, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Tensor:
    x = x.flip(axis) if reverse else x
    total = x.cumsum(axis).to(x.dtype)
    if exclusive:
        total = torch.cat([torch.zeros_like(total.narrow(axis, 0, 1)), total], axis)
        total = total.narrow(axis, 0, x.shape[axis])
    return total.flip(axis) if reverse else total


@op("fill", sized=True)
def fill(*, shape: Ints, value: Tensor = _ZERO) -> Tensor:
    return value.expand(shape).clone()


@op("fill_like", since="iOS16")
def fill_like(*, ref_tensor: Tensor, value: Tensor = _ZERO) -> Tensor:
    return value.expand(ref_tensor.shape).clone()


@op("flatten2d")
def flatten2d(*, x: Tensor, axis: int = 1) -> Tensor:
    return x.reshape(x.shape[:axis].numel(), x.shape[axis:].numel())


@op("identity")
def identity(*, x: Tensor) -> Tensor:
    return x


def _suppress(
    boxes: Tensor, scores: Tensor, iou_threshold: float, max_boxes: int, per_class: bool
) -> Tensor:
    """Indices of the boxes ``[B, 4]`` that remain, from their scores ``[B, K]``.

    A box has its highest score, and that score's class.
    """
    best, classes = scores.max(-1)
    order = best.argsort(descending=True, stable=True)
    centers, sizes = boxes[:, :2], boxes[:, 2:]
    low, high, areas = centers - sizes / 2, centers + sizes / 2, sizes.prod(-1)
    kept = []
    while len(order) and len(kept) < max_boxes:
        first, order = order[0], order[1:]
        kept.append(first)
        sides = torch.minimum(high[first], high[order]) - torch.maximum(low[first], low[order])
        shared = sides.clamp(min=0).prod(-1)
        # No quotient, since two boxes of area 0 would divide by 0; they do not overlap.
        overlaps = shared > iou_threshold * (areas[first] + areas[order] - shared)
        if per_class:
            overlaps &= classes[order] == classes[first]
        order = order[~overlaps]
    return torch.stack(kept) if kept else order[:0]


@op("non_maximum_suppression")
def non_maximum_suppression(
    *,
    boxes: Upcast,
    scores: Upcast,
    iou_threshold: float,
    score_threshold: float,
    max_boxes: int,
    per_class_suppression: bool = False,
) -> Tensors:
    # NonMaximumSuppressionLayerParams in ``NeuralNetwork.proto``: padding is zeros, and -1 for
    # indices; if no box reaches the threshold, the best one remains.
    batches = []
    for box, score in zip(boxes, scores, strict=True):
        best = score.amax(-1)
        rows = (best >= score_threshold).nonzero().flatten()
        if not len(rows):
            rows = best.argmax(0, keepdim=True)
        kept = rows[
            _suppress(box[rows], score[rows], iou_threshold, max_boxes, per_class_suppression)
        ]
        batches.append(
            (
                F.pad(box[kept], [0, 0, 0, max_boxes - len(kept)]),
                F.pad(score[kept], [0, 0, 0, max_boxes - len(kept)]),
                F.pad(kept.int(), [0, max_boxes - len(kept)], value=-1),
                torch.tensor(len(kept), dtype=torch.int32),
            )
        )
    return tuple(torch.stack(parts) for parts in zip(*batches, strict=True))


@op("non_maximum_suppression", since="iOS17")
def non_maximum_suppression_without_threshold(
    *,
    boxes: Upcast,
    scores: Upcast,
    iou_threshold: float,
    max_boxes: int,
    per_class_suppression: bool = False,
) -> Tensors:
    box, score, indices, _ = non_maximum_suppression(
        boxes=boxes.mT,
        scores=scores.mT,
        iou_threshold=iou_threshold,
        score_threshold=-math.inf,
        max_boxes=max_boxes,
        per_class_suppression=per_class_suppression,
    )
    return box.mT, score.mT, indices


@op("non_zero")
def non_zero(*, x: Tensor) -> Tensor:
    return x.nonzero().int()


@op("one_hot", sized=True)
def one_hot(
    *,
    indices: Tensor,
    one_hot_vector_size: int,
    axis: int = -1,
    on_value: Tensor = _ONE_INT,
    off_value: Tensor = _ZERO_INT,
) -> Tensor:
    axis = axis % (indices.ndim + 1)
    places = torch.arange(one_hot_vector_size).reshape(-1, *[1] * (indices.ndim - axis))
    return torch.where(indices.unsqueeze(axis) == places, on_value, off_value)


@op("pad", sized=True)
def pad(*, x: Tensor, pad: Ints, mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    if mode == "constant":
        # MIL lists the last dimensions first to last, F.pad last to first.
        return F.pad(x, [n for pair in reversed(pairs) for n in pair], value=constant_val)
    for axis, (before, after) in enumerate(pairs, start=x.ndim - len(pairs)):
        last = x.shape[axis] - 1
        places = torch.arange(-before, last + 1 + after)
        if mode == "reflect":
            if max(before, after) > last:
                raise ValueError(
                    f"padding of {max(before, after)} by reflection, expected at most {last}"
                )
            places = last - (last - places.abs()).abs()
        elif mode == "replicate":
            places = places.clamp(0, last)
        else:
            raise ValueError(f"unknown mode {mode!r}")
        x = x.index_select(axis, places)
    return x


@op("range_1d", sized=True)
def range_1d(*, start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


@op("shape")
def shape(*, x: Tensor) -> Tensor:
    return torch.tensor(x.shape, dtype=torch.int32)


@op("split")
def split(
    *, x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Ints | None = None
) -> Tensors:
    if split_sizes is None:
        if not num_splits or x.shape[axis] % num_splits:
            raise ValueError(
                f"{x.shape[axis]} elements do not divide into {num_splits} equal parts"
            )
        split_sizes = [x.shape[axis] // num_splits] * num_splits
    return torch.split_with_sizes(x, split_sizes, axis)  # x.split() does more in Python


@op("stack")
def stack(*, values: Tensors, axis: int) -> Tensor:
    return torch.stack(values, axis)


@op("tile", sized=True)
def tile(*, x: Tensor, reps: Ints) -> Tensor:
    if x.ndim == len(reps) and all(1 in pair for pair in zip(x.shape, reps, strict=True)):
        return x.expand([n * count for n, count in zip(x.shape, reps, strict=True)])  # no copies
    return x.repeat(reps)


# Sorting is stable; MIL does not specify the order of ties.
@op("argsort")
def argsort(*, x: Tensor, axis: int = -1, ascending: bool = False) -> Tensor:
    return x.argsort(dim=axis, descending=not ascending, stable=True).int()


@op("topk")
def topk(
    *,
    x: Tensor,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> Tensor | Tensors:
    # Without `sort` any order is allowed, so sorted is one of them.
    values, indices = x.sort(dim=axis, descending=not ascending, stable=True)
    k = x.shape[axis] if k == -1 else k
    values, indices = values.narrow(axis, 0, k), indices.narrow(axis, 0, k)
    dtype = BY_NAME[output_indices_dtype].torch
    return (values, indices.to(dtype)) if return_indices else values
