"""What a matrix's values are counted by: blocks that share a table, and cells of like values.

The top 16 bits of an fp32 number say which *cell* it lies in, and cells are in the order of their
values; where more tables' entries must be told apart, some more bits are taken. One pass adds up,
for each cell, how many values it holds and the low halves of their bits: integers, so the order of
adding does not count, and as values with the same top differ in the low half alone, count and sum
of the values follow exactly.

Values are read tile by tile, so that what is held besides the matrix itself stays small.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from pte_foundry.errors import ModelError

_TILE = 1 << 16
LOW = 0xFFFF
# Tops of the bits in the order of the values: negative ones, from the largest on, then the others.
_ORDER = np.concatenate((np.arange(0xFFFF, 0x7FFF, -1), np.arange(0x8000)))
_NOT_FINITE = np.r_[0x7F80:0x8000, 0xFF80:0x10000]
# Counts and sums of low halves share one integer, up to so many values.
_ONE, _MOST = 1 << 40, 1 << 22


class Blocks:
    """A matrix in which each row is one table's block, or else each ``width`` columns are."""

    def __init__(self, matrix: torch.Tensor, width: int | None = None) -> None:
        self.matrix, self.width = matrix, width
        # numpy has no bfloat16, but much less of an overhead.
        self._array = matrix.numpy() if matrix.dtype == torch.float32 else None
        self.tables = matrix.shape[0] if width is None else matrix.shape[1] // width

    def some(self, first: int, last: int) -> Any:
        """The slice of the matrix that holds the tables from ``first`` to before ``last``."""
        if self.width is None:
            return np.s_[first:last]
        return np.s_[:, first * self.width : last * self.width]

    def tiles(self) -> Iterator[tuple[Any, np.ndarray, np.ndarray | None]]:
        """Slices of the matrix; the bits of their values as fp32, flat; whose table each is.

        The last is missing where there is but one table.
        """
        rows, columns = self.matrix.shape
        wide = min(columns, _TILE)
        high = max(1, _TILE // wide)
        for row in range(0, rows, high):
            for column in range(0, columns, wide):
                where = np.s_[row : row + high, column : column + wide]
                # Adding zero makes -0.0 the same as 0.0.
                if self._array is None:
                    tile = np.ascontiguousarray(self.matrix[where].to(torch.float32).numpy())
                else:
                    tile = self._array[where]
                tile = np.add(tile, np.float32(0), order="C")
                if self.tables == 1:
                    owner = None
                elif self.width is None:
                    owner = np.repeat(np.arange(row, row + tile.shape[0]), tile.shape[1])
                else:
                    owners = np.arange(column, column + tile.shape[1]) // self.width
                    owner = np.tile(owners, tile.shape[0])
                yield where, tile.view(np.uint32).reshape(-1), owner


def tops_of(bits: np.ndarray) -> np.ndarray:
    return (bits >> 16).astype(np.int64)


def lows_of(bits: np.ndarray) -> np.ndarray:
    """The low halves of the bits, in the order of the values: of negative ones it is reversed."""
    return (bits ^ (bits.view(np.int32) >> 31).view(np.uint32)) & LOW


class Histogram:
    """Counts, and sums of low halves, of each of ``size`` cells."""

    def __init__(self, size: int) -> None:
        self._packed = torch.zeros(size, dtype=torch.int64)
        self._added, self._drained = 0, None

    def add(self, cells: np.ndarray, bits: np.ndarray) -> None:
        if self._added + cells.size > _MOST:
            self._drained, self._added = self.result(), 0
            self._packed.zero_()
        low = (bits & LOW).astype(np.int64)
        low += _ONE
        self._packed.scatter_add_(0, torch.from_numpy(cells), torch.from_numpy(low))
        self._added += cells.size

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        packed = self._packed.numpy()
        counts, lows = packed >> 40, packed & (_ONE - 1)
        if self._drained is None:
            return counts, lows
        return counts + self._drained[0], lows + self._drained[1]


class Scale:
    """Which cells a matrix's values lie in, the same for all of its tables.

    Raises:
        ModelError: a value is not finite.
    """

    def __init__(self, blocks: Blocks, at_least: int) -> None:
        self.tables = blocks.tables
        histogram = Histogram(1 << 16)
        for _, bits, _ in blocks.tiles():
            histogram.add(tops_of(bits), bits)
        self.counts, self.lows = histogram.result()
        if self.counts[_NOT_FINITE].any():
            raise ModelError("only tensors of finite values can be clustered")
        self.tops = _ORDER[self.counts[_ORDER] > 0]  # of the values, in their order
        self.bits = 0  # how many bits below the top tell cells apart
        while self.bits < 16 and self.tops.size << self.bits < at_least:
            self.bits += 1
        self.size = self.tops.size << self.bits
        self.used = self.counts > 0
        self.first = np.empty(1 << 16, dtype=np.int64)
        self.first[_ORDER] = (np.cumsum(self.used[_ORDER]) - self.used[_ORDER]) << self.bits

    def cells(self, bits: np.ndarray) -> np.ndarray:
        """The cells of values that the matrix has."""
        cells = np.take(self.first, tops_of(bits))
        if self.bits:
            cells += lows_of(bits) >> (16 - self.bits)
        return cells

    def sums(self, cells: np.ndarray, counts: np.ndarray, lows: np.ndarray) -> np.ndarray:
        """Exact sums of the values in cells, given how many they are and their low halves' sum."""
        bits = (self.tops[cells >> self.bits] << 16).astype(np.uint32)
        base = bits.view(np.float32).astype(np.float64)
        unit = (bits + np.uint32(1)).view(np.float32).astype(np.float64) - base
        return counts * base + lows * unit

    def limits(self, numbers: np.ndarray) -> np.ndarray:
        """The least keys (cell, then low half) that values of at least ``numbers`` can have."""
        least = numbers.astype(np.float32)
        least = np.where(least < numbers, np.nextafter(least, np.float32(np.inf)), least)
        bits = (least + np.float32(0)).view(np.uint32)
        tops = tops_of(bits)
        low = lows_of(bits).astype(np.int64)
        keys = (self.first[tops] + (low >> (16 - self.bits))) << 16 | low
        return np.where(self.used[tops], keys, self.first[tops] << 16)
