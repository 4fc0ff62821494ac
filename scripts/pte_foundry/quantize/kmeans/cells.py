"""Sorted cells of the values of many tables, with counts and sums: the data that k-means works on.

A *cell* is what one table has in one bin. Cells are numbered ``table * bins.size + bin``. Sorting
the values themselves is rarely needed: the histogram has its bins in order, and only cells in which
there is a bound between two clusters are *refined*: replaced by smaller cells, down to single
distinct values.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from pte_foundry.quantize.kmeans.bins import LOW, Bins, Blocks, Histogram, high_bits, low_bits

_LAST_CODE = 255
# Into how many parts a cell is split, as a power of two.
_SPLIT = 5
# How many values are searched for distinct ones at a time.
_AT_ONCE = 1 << 20


class Cells:
    """The sorted cells of some tables, one row for each table.

    A *bound* is the number of cells of its row that are below it. *Bounds* are int64 of shape
    (tables, clusters + 1) and ascend in each row from 0 to its size: cluster k of a table has the
    cells from bound k to before bound k + 1.

    Attributes:
        sizes: cells in each row, int64 of shape (tables,).
        values: mean of each cell, float64 of shape (tables, width); infinity behind the last one.
        counts, sums: of all values below each bound, float64 of shape (tables, width + 1). Sums are
            of differences to the row's ``offsets``, which keeps their precision if values are far
            from zero.
        offsets: about the median of each row, float64 of shape (tables, 1).
        energy: sum of the squares of all such differences, float64 of shape (tables,), without the
            squared error within cells.
    """

    def __init__(self, blocks: Blocks, bins: Bins) -> None:
        """Counts the values of ``blocks``, a part of the matrix that ``bins`` was made of."""
        self._blocks, self._bins = blocks, bins
        # With one table in all, and bins by high bits alone, the bins have the counts already.
        self._direct = bins.tables == 1 and bins.split == 0
        if self._direct:
            counts, lows = bins.counts[bins.high], bins.lows[bins.high]
        else:
            histogram = Histogram(blocks.tables * bins.size)
            for _, bits, tables in blocks.tiles():
                histogram.add(self._numbers(bits, tables), bits)
            counts, lows = histogram.result()
        used = np.flatnonzero(counts)
        self._open = (counts > 1) & (lows > 0)  # by number: may hold different values
        self._keys = used << 16  # after refinement with the low bits of a cell's least value
        self._count = counts[used].astype(np.float64)
        self._sum = bins.sums(used % bins.size, counts[used], lows[used])
        self.offsets: np.ndarray | None = None
        self._arrange()

    def _numbers(self, bits: np.ndarray, tables: np.ndarray | None) -> np.ndarray:
        """The cell of each value, int64."""
        numbers = self._bins.of(bits)
        return numbers if tables is None else numbers + tables * self._bins.size

    def _look_up(
        self, of_cells: np.ndarray
    ) -> Iterator[tuple[Any, np.ndarray, np.ndarray | None, np.ndarray]]:
        """Yields what ``Blocks.tiles`` does, and the entry of ``of_cells`` for each value."""
        if self._direct:
            of_high_bits = np.zeros(1 << 16, dtype=of_cells.dtype)
            of_high_bits[self._bins.high] = of_cells
        for index, bits, tables in self._blocks.tiles():
            if self._direct:
                yield index, bits, tables, of_high_bits.take(high_bits(bits))
            else:
                yield index, bits, tables, of_cells.take(self._numbers(bits, tables))

    def _arrange(self) -> None:
        """Lays the sorted cells out in rows: sets all public attributes."""
        tables = self._blocks.tables
        row = (self._keys >> 16) // self._bins.size
        self.sizes = np.bincount(row, minlength=tables)
        first = np.cumsum(self.sizes) - self.sizes
        column = np.arange(row.size) - first[row]
        width = int(self.sizes.max())
        means = self._sum / self._count
        self.values = np.full((tables, width), np.inf)
        self.values[row, column] = means
        if self.offsets is None:
            middle = means[first + self.sizes // 2]
            self.offsets = middle.astype(np.float32).astype(np.float64)[:, None]
        self.counts = np.zeros((tables, width + 1))
        self.counts[row, column + 1] = self._count
        np.cumsum(self.counts, axis=1, out=self.counts)
        self.sums = np.zeros((tables, width + 1))
        self.sums[row, column + 1] = sums = self._sum - self.offsets[row, 0] * self._count
        squares = np.zeros((tables, width))
        squares[row, column] = sums * sums / self._count
        self.energy = np.cumsum(squares, axis=1)[:, -1]
        np.cumsum(self.sums, axis=1, out=self.sums)

    def below(self, bounds: np.ndarray, *, axis: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Counts and sums of all values below bounds, float64 in the shape of ``bounds``.

        Args:
            bounds: int64; any number of them for each table.
            axis: which axis of ``bounds`` is that of the tables: 0 (2-D only) or -1.
        """
        rows = np.arange(self.sizes.size) * self.counts.shape[1]
        places = bounds + (rows if axis else rows[:, None])
        return self.counts.reshape(-1).take(places), self.sums.reshape(-1).take(places)

    def search(self, limits: np.ndarray) -> np.ndarray:
        """Bounds below which the means of all cells are less than ``limits``.

        ``limits`` is float64, the result int64, both of shape (tables, n).
        """
        found = torch.searchsorted(torch.from_numpy(self.values), torch.from_numpy(limits))
        return found.numpy()

    def undecided(self, limits: np.ndarray) -> np.ndarray:
        """Cells that may hold values on both sides of ``limits``, and the cells next to them.

        Args:
            limits: float64 of shape (tables, n).

        Returns:
            Numbers of cells, ascending, for ``refine``; empty if no cell of a limit is undecided.
        """
        cells = (self._keys_of(limits) >> 16).reshape(-1)
        cells = cells[cells < self._open.size]
        cells = cells[self._open[cells]]
        places = np.searchsorted(self._keys, cells << 16)[:, None] + np.arange(-1, 2)
        near = self._keys[np.clip(places, 0, self._keys.size - 1)] >> 16
        near = near[near // self._bins.size == (cells // self._bins.size)[:, None]]
        chosen = np.zeros_like(self._open)
        chosen[near] = True
        return np.flatnonzero(chosen & self._open)

    def all_undecided(self, tables: np.ndarray) -> np.ndarray:
        """Numbers of all cells that may hold different values, of tables that a mask chooses."""
        cells = self._keys >> 16
        return cells[self._open[cells] & tables[cells // self._bins.size]]

    def tables_with(self, cells: np.ndarray) -> np.ndarray:
        """The mask, of shape (tables,), of the tables that have one of ``cells``."""
        tables = np.zeros(self._blocks.tables, dtype=bool)
        tables[cells // self._bins.size] = True
        return tables

    def _keys_of(self, limits: np.ndarray) -> np.ndarray:
        """The least keys of values of at least ``limits``, int64, for limits of (tables, n)."""
        rows = (np.arange(limits.shape[0]) * (self._bins.size << 16))[:, None]
        end = self._bins.size << 16
        keys = np.full(limits.shape, end)
        finite = np.isfinite(limits)
        keys[finite] = self._bins.least_keys(limits[finite])
        return keys + rows

    def refine(self, cells: np.ndarray, bounds: np.ndarray, *, wholly: bool = False) -> np.ndarray:
        """Replaces cells by smaller ones, and returns ``bounds`` among the new ones.

        Args:
            cells: numbers of unrefined cells.
            bounds: int64 of shape (tables, n), none of them inside of a cell.
            wholly: whether to take their distinct values, else 32 parts of each.
        """
        counts, _ = self.below(bounds)
        if wholly:
            held = self._count[np.searchsorted(self._keys, cells << 16)]
            parts = np.cumsum(held) // _AT_ONCE + np.arange(cells.size) // LOW
            parts = np.split(cells, np.flatnonzero(np.diff(parts)) + 1)
            found = [self._distinct(part) for part in parts]
        else:
            found = [self._split(cells)]
        refined = np.zeros(self._open.size, dtype=bool)
        refined[cells] = True
        keep = np.flatnonzero(~refined[self._keys >> 16])
        self._open &= ~refined
        columns = zip((self._keys[keep], self._count[keep], self._sum[keep]), *found, strict=True)
        keys, count, total = (np.concatenate(column) for column in columns)
        order = np.argsort(keys, kind="stable")
        self._keys, self._count, self._sum = keys[order], count[order], total[order]
        self._arrange()
        return torch.searchsorted(torch.from_numpy(self.counts), torch.from_numpy(counts)).numpy()

    def _chosen(self, cells: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields bits of the values in less than 2**16 cells, and which of these they are in."""
        positions = np.zeros(self._open.size, dtype=np.uint16)
        positions[cells] = np.arange(1, cells.size + 1)
        for _, bits, _, position in self._look_up(positions):
            places = np.flatnonzero(position != 0)
            yield bits[places], position[places] - 1

    def _split(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Keys, counts and sums of the parts of cells, in order of their keys."""
        histogram = Histogram(cells.size << _SPLIT)
        below = max(16 - self._bins.split - _SPLIT, 0)
        mask = (1 << _SPLIT) - 1
        for bits, position in self._chosen(cells):
            part = position.astype(np.int64) << _SPLIT
            part |= (low_bits(bits) >> below) & mask
            histogram.add(part, bits)
        counts, lows = histogram.result()
        used = np.flatnonzero(counts)
        cell, counts, lows = cells[used >> _SPLIT], counts[used], lows[used]
        inner = (cell % self._bins.size) & ((1 << self._bins.split) - 1)
        low = inner << (16 - self._bins.split) | (used & mask) << below
        return cell << 16 | low, counts, self._bins.sums(cell % self._bins.size, counts, lows)

    def _distinct(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Keys, counts and sums of the distinct values in cells, in order of their keys."""
        chosen = [(which, low_bits(bits).astype(np.uint16)) for bits, which in self._chosen(cells)]
        position, low = map(np.concatenate, zip(*chosen, strict=True))
        # A stable sort of 16-bit integers is a radix sort, by far the fastest.
        order = np.argsort(low, kind="stable")
        order = order[np.argsort(position[order], kind="stable")]
        keys = (cells[position[order]] << 16) | low[order]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        keys, counts = keys[first], np.diff(first, append=keys.size)
        cell, low = (keys >> 16) % self._bins.size, keys & LOW
        low = np.where(self._bins.high[cell >> self._bins.split] < 0x8000, low, LOW - low)
        return keys, counts, self._bins.sums(cell, counts, counts * low)

    def write_codes(self, limits: np.ndarray, out: np.ndarray) -> None:
        """Writes the code of each value: how many limits of its table it has reached.

        Args:
            limits: ascending in each row, float64 of shape (tables, clusters - 1).
            out: uint8 in the shape of the matrix; may be a view.
        """
        inner = limits.shape[1]
        limits = self._keys_of(limits).reshape(-1)
        cells = self._keys[np.flatnonzero(np.diff(self._keys >> 16, prepend=-1))] >> 16
        before = cells // self._bins.size * inner
        least = np.searchsorted(limits, cells << 16, side="right") - before
        most = np.searchsorted(limits, cells << 16 | LOW, side="right") - before
        of_cells = np.zeros(self._open.size, dtype=np.uint16)
        of_cells[cells] = np.where(least == most, least, _LAST_CODE + 1)  # else look at the value
        for index, bits, tables, code in self._look_up(of_cells):
            places = np.flatnonzero(code > _LAST_CODE)
            code = code.astype(np.uint8)
            bits = bits[places]
            tables = None if tables is None else tables[places]
            keys = self._numbers(bits, tables) << 16 | low_bits(bits)
            before = 0 if tables is None else tables * inner
            code[places] = np.searchsorted(limits, keys, side="right") - before
            out[index] = code.reshape(out[index].shape)
