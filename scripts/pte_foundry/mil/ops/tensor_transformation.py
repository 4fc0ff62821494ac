"""Shapes and slices (``iOS15``, ``iOS16``, ``iOS17`` and ``iOS18/tensor_transformation.py``)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pte_foundry.mil.parameters import Bools, Ints, Tensors
from pte_foundry.mil.registry import op


@op("depth_to_space")
def depth_to_space(*, x: Tensor, block_size: int) -> Tensor:
    # Channels are (block row, block column, channel), as in TensorFlow, unlike pixel_shuffle's.
    n, c, h, w = x.shape
    x = x.reshape(n, block_size, block_size, c // block_size**2, h, w)
    return x.permute(0, 3, 4, 1, 5, 2).reshape(n, -1, h * block_size, w * block_size)


@op("space_to_depth")
def space_to_depth(*, x: Tensor, block_size: int) -> Tensor:
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // block_size, block_size, w // block_size, block_size)
    return x.permute(0, 3, 5, 1, 2, 4).reshape(n, -1, h // block_size, w // block_size)


@op("space_to_batch", sized=True)
def space_to_batch(*, x: Tensor, block_shape: Ints, paddings: Ints) -> Tensor:
    (rows, columns), (top, bottom, left, right) = block_shape, paddings
    x = F.pad(x, (left, right, top, bottom))
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // rows, rows, w // columns, columns)
    return x.permute(3, 5, 0, 1, 2, 4).reshape(-1, c, h // rows, w // columns)


@op("batch_to_space")
def batch_to_space(*, x: Tensor, block_shape: Ints, crops: Ints) -> Tensor:
    (rows, columns), (top, bottom, left, right) = block_shape, crops
    n, c, h, w = x.shape
    x = x.reshape(rows, columns, n // (rows * columns), c, h, w).permute(2, 3, 4, 0, 5, 1)
    x = x.reshape(-1, c, h * rows, w * columns)
    return x[:, :, top : h * rows - bottom, left : w * columns - right]


@op("pixel_shuffle")
def pixel_shuffle(*, x: Tensor, upscale_factor: int) -> Tensor:
    return F.pixel_shuffle(x, upscale_factor)


@op("pixel_unshuffle", since="iOS16")
def pixel_unshuffle(*, x: Tensor, downscale_factor: int) -> Tensor:
    return F.pixel_unshuffle(x, downscale_factor)


@op("expand_dims")
def expand_dims(*, x: Tensor, axes: Ints) -> Tensor:
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@op("squeeze")
def squeeze(*, x: Tensor, axes: Ints | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(axes)


@op("transpose", direct=torch.permute)
def transpose(*, x: Tensor, perm: Ints) -> Tensor:
    return x.permute(perm)


@op("reshape")
def reshape(*, x: Tensor, shape: Ints) -> Tensor:
    if 0 in shape and x.numel() > 0:
        if len(shape) != x.ndim:
            raise ValueError(
                f"0 in {shape} of {len(shape)} dimensions, expected {x.ndim} dimensions"
            )
        shape = [have if want == 0 else want for have, want in zip(x.shape, shape, strict=True)]
    return x.reshape(shape)


@op("reshape", since="iOS17")
def reshape_right_aligned(*, x: Tensor, shape: Ints) -> Tensor:
    # 0 means the dimension of x at the same distance from the right, 1 beyond the rank of x.
    if 0 in shape and x.numel() > 0:
        have = [1] * max(0, len(shape) - x.ndim) + list(x.shape)
        have = have[len(have) - len(shape) :]
        shape = [h if want == 0 else want for h, want in zip(have, shape, strict=True)]
    return x.reshape(shape)


@op("reshape_like", since="iOS16")
def reshape_like(
    *, x: Tensor, ref_tensors: Tensors, begins: Tensors, ends: Tensors, end_masks: Tensors
) -> Tensor:
    shape: Ints = []
    for reference, begin, end, mask in zip(ref_tensors, begins, ends, end_masks, strict=True):
        shape += reference.shape[int(begin) : None if bool(mask) else int(end)]
    return x.reshape(shape)


@op("reverse")
def reverse(*, x: Tensor, axes: Ints | None = None) -> Tensor:
    return x.flip(axes if axes is not None else list(range(x.ndim)))


@op("reverse_sequence")
def reverse_sequence(*, x: Tensor, lengths: Ints, seq_axis: int = 0, batch_axis: int = 0) -> Tensor:
    result = x.clone()
    for index, length in enumerate(lengths):
        # select() removes the batch axis and shifts the axes behind it.
        axis = seq_axis % x.ndim - (seq_axis % x.ndim > batch_axis % x.ndim)
        head = x.select(batch_axis, index).narrow(axis, 0, length)
        result.select(batch_axis, index).narrow(axis, 0, length).copy_(head.flip(axis))
    return result


@op("sliding_windows", sized=True)
def sliding_windows(*, x: Tensor, axis: int, size: int, stride: int = 1) -> Tensor:
    return x.unfold(axis, size, stride).movedim(-1, axis % x.ndim + 1)


def _slices(
    shape: torch.Size,
    begin: Ints,
    end: Ints,
    stride: Ints | None,
    begin_mask: Bools | None,
    end_mask: Bools | None,
    squeeze_mask: Bools | None,
) -> tuple[tuple[slice, ...], Ints, Ints]:
    """Python's slices for torch, which has positive steps only.

    Returns:
        The slices, the axes to flip after slicing, and the axes to squeeze after that.
    """
    rank = len(shape)
    stride, no = stride or [1] * rank, [False] * rank
    masks = zip(begin_mask or no, end_mask or no, squeeze_mask or no, strict=True)
    slices, flips, squeezes = [], [], []
    for axis, (size, b, e, step, (no_b, no_e, single)) in enumerate(
        zip(shape, begin, end, stride, masks, strict=True)
    ):
        if single:
            b = b + size if b < 0 else b
            if not 0 <= b < size:
                raise IndexError(f"index {b} on axis {axis} of size {size} is out of bounds")
            slices.append(slice(b, b + 1))
            squeezes.append(axis)
            continue
        taken = range(size)[None if no_b else b : None if no_e else e : step]
        if step < 0:
            taken = taken[::-1]
            flips.append(axis)
        slices.append(slice(taken.start, taken.stop, taken.step))
    return tuple(slices), flips, squeezes


@op("slice_by_index")
def slice_by_index(
    *,
    x: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    slices, flips, squeezes = _slices(
        x.shape, begin, end, stride, begin_mask, end_mask, squeeze_mask
    )
    result = x[slices]
    return (result.flip(flips) if flips else result).squeeze(squeezes)


@op("slice_by_size")
def slice_by_size(*, x: Tensor, begin: Ints, size: Ints) -> Tensor:
    for axis, (first, length) in enumerate(zip(begin, size, strict=True)):
        first = first + x.shape[axis] if first < 0 else first
        x = x.narrow(axis, first, x.shape[axis] - first if length == -1 else length)
    return x


@op("slice_update", since="iOS18")
def slice_update(
    *,
    x: Tensor,
    update: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    slices, flips, _ = _slices(x.shape, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    result = x.clone()
    target = result[slices]
    if math.prod(target.shape) != update.numel():
        raise ValueError(f"an update of shape {list(update.shape)}, expected {list(target.shape)}")
    target.copy_(update.reshape(target.shape).flip(flips))
    return result
