"""Decompression of weights at load (``iOS16/constexpr_ops.py``, ``iOS18/compression.py``)."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from pte_foundry.formats.mil_dtypes import BY_NAME, MAX_ELEMENTS
from pte_foundry.formats.weight_blob import unpack_bits
from pte_foundry.mil.ops.quantization import along_axis
from pte_foundry.mil.parameters import Ints
from pte_foundry.mil.registry import op


def _unpack(packed: Tensor, bits: int, shape: Ints) -> Tensor:
    """Unpack integers of ``bits`` bits, which must fill the bytes of ``packed`` exactly."""
    count = math.prod(shape)
    if packed.ndim != 1 or packed.numel() != math.ceil(count * bits / 8):
        raise ValueError(
            f"{packed.numel()} bytes found, expected those of {count} elements of {bits} bits"
        )
    return torch.from_numpy(unpack_bits(packed.numpy(), bits, count)).reshape(shape)


@op("constexpr_affine_dequantize", since="iOS16")
def constexpr_affine_dequantize(
    *, quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: int
) -> Tensor:
    rank = quantized_data.ndim
    # A scalar, or a vector along the axis: one element per block.
    scale, offset = (
        (along_axis(p, rank, axis) if p.ndim else p.reshape([1] * rank))
        for p in (scale, zero_point)
    )
    return constexpr_blockwise_shift_scale(data=quantized_data, scale=scale, offset=offset)


@op("constexpr_cast", since="iOS16")
def constexpr_cast(*, source_val: Tensor, output_dtype: str) -> Tensor:
    return source_val.to(BY_NAME[output_dtype].torch)


@op("constexpr_lut_to_dense", since="iOS16")
def constexpr_lut_to_dense_flat(*, indices: Tensor, lut: Tensor, shape: Ints) -> Tensor:
    bits = int(math.log2(lut.numel()))
    if lut.ndim != 1 or 2**bits != lut.numel() or bits not in (1, 2, 4, 6, 8):
        raise ValueError(
            f"a table of shape {list(lut.shape)}, expected 2, 4, 16, 64 or 256 entries"
        )
    tables = lut.reshape(*[1] * len(shape), -1, 1)
    return constexpr_lut_to_dense(indices=_unpack(indices, bits, shape), lut=tables)


@op("constexpr_sparse_to_dense", since="iOS16")
def constexpr_sparse_to_dense_flat(*, nonzero_data: Tensor, mask: Tensor, shape: Ints) -> Tensor:
    return constexpr_sparse_to_dense(nonzero_data=nonzero_data, mask=_unpack(mask, 1, shape))


def _blocks(shape: Ints, tables: Ints) -> Ints:
    """Number of elements along each dimension that share a table or a scale."""
    if len(shape) != len(tables) or any(n % max(t, 1) for n, t in zip(shape, tables, strict=True)):
        raise ValueError(f"{tables} blocks do not divide a tensor of shape {shape}")
    return [n // max(t, 1) for n, t in zip(shape, tables, strict=True)]


def _by_block(data: Tensor, parameter: Tensor) -> tuple[Tensor, Tensor]:
    """Views that broadcast: dimensions split into blocks and elements, one parameter per block.

    Scales repeated for every element would take twice the memory of an fp16 weight.
    """
    blocks = _blocks(list(data.shape), list(parameter.shape))
    pairs = list(zip(parameter.shape, blocks, strict=True))
    split = data.view([size for pair in pairs for size in pair])
    return split, parameter.reshape([size for count, _ in pairs for size in (count, 1)])


def _pieces(shape: Ints) -> Iterator[slice]:
    """Slices of the first dimension, so that temporary tensors stay small."""
    size = _piece(shape)
    return (slice(start, start + size) for start in range(0, shape[0], size))


def _piece(shape: Ints) -> int:
    """Length of a slice of the first dimension with about 2**18 elements."""
    return max(1, 2**18 // max(1, math.prod(shape[1:])))


def _block_numbers(size: int, block: int) -> Tensor:
    """Index of the block of each element of a dimension."""
    return torch.arange(size) // max(block, 1)


@op("constexpr_blockwise_shift_scale", since="iOS18")
def constexpr_blockwise_shift_scale(
    *, data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> Tensor:
    # In fp32, rounded once. coremltools' fp16 arithmetic gives the same: integers below 2**11 are
    # exact in fp16.
    shape, dense = list(data.shape), torch.empty(data.shape, dtype=scale.dtype)
    steps = [(torch.Tensor.mul_, scale)]
    if offset is not None:
        steps.insert(0, (torch.Tensor.sub_, offset))
    rows = [_block_numbers(shape[0], _blocks(shape, list(p.shape))[0]) for _, p in steps]
    steps = [(step, parameter.float()) for step, parameter in steps]
    for piece in _pieces(shape):
        levels = data[piece].to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        for (step, parameter), row in zip(steps, rows, strict=True):
            step(*_by_block(levels, parameter.index_select(0, row[piece])))
        dense[piece] = levels
    return dense


@op("constexpr_lut_to_dense", since="iOS18")
def constexpr_lut_to_dense(
    *, indices: Tensor, lut: Tensor, vector_axis: int | None = None
) -> Tensor:
    shape, (entries, vector) = list(indices.shape), lut.shape[-2:]
    blocks = _blocks(shape, list(lut.shape[:-2]))
    if indices.numel() and int(indices.max()) >= entries:
        raise ValueError(f"index {int(indices.max())} into tables of {entries} entries")
    if indices.numel() * vector > MAX_ELEMENTS:
        raise ValueError(f"vectors of {vector} exceed {MAX_ELEMENTS} elements")
    # All tables are stacked: an element's row is its table's number times entries, plus its index.
    # The number is a sum over the dimensions; the first dimension's part is sliced with the pieces.
    integer = torch.int32 if lut.numel() < 2**31 else torch.int64
    first, *others = (
        (_block_numbers(size, block) * math.prod(lut.shape[axis + 1 : -2]) * entries)
        .to(integer)
        .reshape(-1, *[1] * (len(shape) - axis - 1))
        for axis, (size, block) in enumerate(zip(shape, blocks, strict=True))
    )
    other = sum(others, torch.zeros((), dtype=integer))
    # Piece by piece: the rows of all elements would take twice the memory of an fp16 weight.
    tables = lut.reshape(-1, vector) if vector > 1 else lut.reshape(-1)
    dense = torch.empty(*shape, *tables.shape[1:], dtype=lut.dtype)
    for piece in _pieces(shape):
        rows = indices[piece].to(integer, copy=True, memory_format=torch.contiguous_format)
        if len(tables) > entries:
            rows += first[piece] + other
        found = dense[piece].view(rows.numel(), *tables.shape[1:])
        torch.index_select(tables, 0, rows.view(-1), out=found)
    if vector == 1:
        return dense
    if vector_axis is None:
        raise ValueError("a table of vectors needs a vector_axis")
    axis = vector_axis % len(shape)
    return dense.movedim(-1, axis + 1).flatten(axis, axis + 1)


@op("constexpr_sparse_to_dense", since="iOS18")
def constexpr_sparse_to_dense(*, nonzero_data: Tensor, mask: Tensor) -> Tensor:
    present = mask.bool()
    if nonzero_data.shape != (int(present.sum()),):
        raise ValueError(
            f"{list(nonzero_data.shape)} values found, expected {int(present.sum())} as in the mask"
        )
    dense = torch.zeros(mask.shape, dtype=nonzero_data.dtype)
    dense[present] = nonzero_data
    return dense


@op("constexpr_lut_to_sparse", since="iOS18")
def constexpr_lut_to_sparse(
    *,
    indices_mask: Tensor,
    indices_nonzero_data: Tensor,
    lut: Tensor,
    vector_axis: int | None = None,
) -> tuple[Tensor, Tensor]:
    indices = constexpr_sparse_to_dense(nonzero_data=indices_nonzero_data, mask=indices_mask)
    dense = constexpr_lut_to_dense(indices=indices, lut=lut, vector_axis=vector_axis)
    mask = indices_mask
    if lut.shape[-1] > 1:
        mask = mask.repeat_interleave(lut.shape[-1], vector_axis)
    return mask, dense[mask.bool()]


@op("constexpr_sparse_blockwise_shift_scale", since="iOS18")
def constexpr_sparse_blockwise_shift_scale(
    *, data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    data = constexpr_sparse_to_dense(nonzero_data=nonzero_data, mask=data_mask)
    dense = constexpr_blockwise_shift_scale(data=data, scale=scale, offset=offset)
    return data_mask, dense[data_mask.bool()]
