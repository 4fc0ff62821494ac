"""Histogram bins over the bits of fp32 values, and the blocks of a matrix that share a table.

Ordered by value, fp32 numbers with equal high 16 bits are neighbours: they share a *bin*. Where one
bin for each pattern of high bits is too coarse, a few more bits split it. One pass over the matrix
counts the values of each bin and adds up their low 16 bits. These are integers, so the order of
additions has no effect; and as values with equal high bits differ in their low bits alone, count
and sum of the low bits give the exact sum of the values.

The matrix is read tile by tile, so that little memory is needed besides it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from pte_foundry.errors import ModelError

_TILE = 1 << 16
LOW = 0xFFFF
# The high bits in ascending order of the values: negative ones, from the largest on, then others.
_ORDER = np.concatenate((np.arange(0xFFFF, 0x7FFF, -1), np.arange(0x8000)))
_NOT_FINITE = np.r_[0x7F80:0x8000, 0xFF80:0x10000]
# A count and a sum of low bits share one integer, for up to this many values.
_ONE, _MOST = 1 << 40, 1 << 22


class Blocks:
    """A matrix in blocks that have a table each: single rows, or ``width`` columns each.

    Attributes:
        matrix: 2-D, of any float dtype.
        width: columns of a block; None if each row is a block.
        tables: the number of blocks.
    """

    def __init__(self, matrix: torch.Tensor, width: int | None = None) -> None:
        self.matrix, self.width = matrix, width
        # numpy has less overhead than torch, but no bfloat16.
        self._array = matrix.numpy() if matrix.dtype == torch.float32 else None
        self.tables = matrix.shape[0] if width is None else matrix.shape[1] // width

    def region(self, first: int, last: int) -> Any:
        """Index of the part of the matrix with the tables from ``first`` to before ``last``."""
        if self.width is None:
            return np.s_[first:last]
        return np.s_[:, first * self.width : last * self.width]

    def tiles(self) -> Iterator[tuple[Any, np.ndarray, np.ndarray | None]]:
        """Yields the matrix in tiles: (index, bits, tables).

        ``index`` selects the tile in the matrix. ``bits`` are its values in fp32, as 1-D uint32,
        with 0.0 for -0.0. ``tables`` is the table of each value, int64, or None if there is only
        one table.
        """
        rows, columns = self.matrix.shape
        wide = min(columns, _TILE)
        high = max(1, _TILE // wide)
        for row in range(0, rows, high):
            for column in range(0, columns, wide):
                index = np.s_[row : row + high, column : column + wide]
                if self._array is None:
                    tile = np.ascontiguousarray(self.matrix[index].to(torch.float32).numpy())
                else:
                    tile = self._array[index]
                tile = np.add(tile, np.float32(0), order="C")  # turns -0.0 into 0.0
                if self.tables == 1:
                    tables = None
                elif self.width is None:
                    tables = np.repeat(np.arange(row, row + tile.shape[0]), tile.shape[1])
                else:
                    of_columns = np.arange(column, column + tile.shape[1]) // self.width
                    tables = np.tile(of_columns, tile.shape[0])
                yield index, tile.view(np.uint32).reshape(-1), tables


def high_bits(bits: np.ndarray) -> np.ndarray:
    """The high 16 bits of uint32 ``bits``, int64."""
    return (bits >> 16).astype(np.int64)


def low_bits(bits: np.ndarray) -> np.ndarray:
    """The low 16 bits of uint32 ``bits``, uint32, inverted for negative values.

    So they ascend with the values of a bin, whatever their sign.
    """
    return (bits ^ (bits.view(np.int32) >> 31).view(np.uint32)) & LOW


class Histogram:
    """Counts of values, and sums of their low bits (not inverted), in ``size`` places."""

    def __init__(self, size: int) -> None:
        self._packed = torch.zeros(size, dtype=torch.int64)
        self._added, self._drained = 0, None

    def add(self, places: np.ndarray, bits: np.ndarray) -> None:
        """Adds values, given their places (int64) and fp32 bits (uint32), both 1-D."""
        if self._added + places.size > _MOST:
            self._drained, self._added = self.result(), 0
            self._packed.zero_()
        packed = (bits & LOW).astype(np.int64)
        packed += _ONE
        self._packed.scatter_add_(0, torch.from_numpy(places), torch.from_numpy(packed))
        self._added += places.size

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Counts and sums of low bits, int64, of shape (size,)."""
        packed = self._packed.numpy()
        counts, lows = packed >> 40, packed & (_ONE - 1)
        if self._drained is None:
            return counts, lows
        return counts + self._drained[0], lows + self._drained[1]


class Bins:
    """The bins of a matrix's values, in ascending order; all of its tables share them.

    Attributes:
        size: the number of bins.
        high: the high bits that occur, ascending by value, int64 of shape (size >> split,).
        split: how many bits below the high ones distinguish bins, 0 to 16.
        counts, lows: the histogram of all values by their high bits, int64 of shape (65536,).

    Raises:
        ModelError: a value is not finite.
    """

    def __init__(self, blocks: Blocks, at_least: int) -> None:
        """Counts the values and takes at least ``at_least`` bins, if values have so many bits."""
        self.tables = blocks.tables
        histogram = Histogram(1 << 16)
        for _, bits, _ in blocks.tiles():
            histogram.add(high_bits(bits), bits)
        self.counts, self.lows = histogram.result()
        if self.counts[_NOT_FINITE].any():
            raise ModelError("only tensors of finite values can be clustered")
        self.high = _ORDER[self.counts[_ORDER] > 0]
        self.split = 0
        while self.split < 16 and self.high.size << self.split < at_least:
            self.split += 1
        self.size = self.high.size << self.split
        self._used = self.counts > 0
        self._first = np.empty(1 << 16, dtype=np.int64)  # by high bits: the first of their bins
        self._first[_ORDER] = (np.cumsum(self._used[_ORDER]) - self._used[_ORDER]) << self.split

    def of(self, bits: np.ndarray) -> np.ndarray:
        """The bins, int64, of values of the matrix, given as uint32 bits."""
        bins = np.take(self._first, high_bits(bits))
        if self.split:
            bins += low_bits(bits) >> (16 - self.split)
        return bins

    def sums(self, bins: np.ndarray, counts: np.ndarray, lows: np.ndarray) -> np.ndarray:
        """Exact sums, float64, of values in bins, given their number and the sum of their low bits.

        All are 1-D and of equal length; ``lows`` is not inverted.
        """
        bits = (self.high[bins >> self.split] << 16).astype(np.uint32)
        base = bits.view(np.float32).astype(np.float64)
        unit = (bits + np.uint32(1)).view(np.float32).astype(np.float64) - base
        return counts * base + lows * unit

    def least_keys(self, numbers: np.ndarray) -> np.ndarray:
        """The least keys, int64, that values of at least ``numbers`` (float64) can have.

        A key is ``bin << 16 | low bits``, so keys ascend with the values.
        """
        least = numbers.astype(np.float32)
        least = np.where(least < numbers, np.nextafter(least, np.float32(np.inf)), least)
        bits = (least + np.float32(0)).view(np.uint32)
        high = high_bits(bits)
        low = low_bits(bits).astype(np.int64)
        keys = (self._first[high] + (low >> (16 - self.split))) << 16 | low
        return np.where(self._used[high], keys, self._first[high] << 16)
