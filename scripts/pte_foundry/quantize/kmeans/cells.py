"""Sorted cells of many tables' values, with counts and sums: what k-means works on.

Nothing is sorted that need not be. At first the cells are those of a scale, which its histogram
has in order. Only cells in which a bound between two clusters lies are *refined*, replaced by their
distinct values.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from pte_foundry.quantize.kmeans.bins import LOW, Blocks, Histogram, Scale, lows_of, tops_of

_LAST_CODE = 255
# Into how many parts a cell is split, as a power of two.
_SPLIT = 5
# Of how many values distinct ones are found in one go.
_AT_ONCE = 1 << 20


class Cells:
    """The sorted cells of some tables, one row a table, with all that k-means asks of them.

    A *bound* is the number of cells of its row that lie below it; a row's bounds ascend from 0 to
    its ``sizes``.

    Attributes:
        sizes: how many cells each row has.
        values: the mean of each cell; behind the last one infinity.
        counts, sums: of all values below a bound. Sums are of values less the row's ``centres``,
            which keeps their precision if the values are far from zero.
        energy: the sum of the squares of such values, without what is lost within cells.
    """

    def __init__(self, blocks: Blocks, scale: Scale) -> None:
        self._blocks, self._scale = blocks, scale
        # With one table in all, and tops alone to tell cells apart, the scale has counted already.
        self._direct = scale.tables == 1 and scale.bits == 0
        if self._direct:
            counts, lows = scale.counts[scale.tops], scale.lows[scale.tops]
        else:
            histogram = Histogram(blocks.tables * scale.size)
            for _, bits, owner in blocks.tiles():
                histogram.add(self._numbers(bits, owner), bits)
            counts, lows = histogram.result()
        used = np.flatnonzero(counts)
        self._open = (counts > 1) & (lows > 0)  # where there may be different values
        self._keys = used << 16  # a refined cell's values have their low halves in addition
        self._count = counts[used].astype(np.float64)
        self._sum = scale.sums(used % scale.size, counts[used], lows[used])
        self.centres: np.ndarray | None = None
        self._arrange()

    def _numbers(self, bits: np.ndarray, owner: np.ndarray | None) -> np.ndarray:
        """Each value's cell, counted over all tables."""
        cells = self._scale.cells(bits)
        return cells if owner is None else cells + owner * self._scale.size

    def _look_up(
        self, table: np.ndarray
    ) -> Iterator[tuple[Any, np.ndarray, np.ndarray | None, np.ndarray]]:
        """The tiles, and what ``table`` has for the cell of each value."""
        if self._direct:
            composed = np.zeros(1 << 16, dtype=table.dtype)
            composed[self._scale.tops] = table
        for where, bits, owner in self._blocks.tiles():
            if self._direct:
                yield where, bits, owner, composed.take(tops_of(bits))
            else:
                yield where, bits, owner, table.take(self._numbers(bits, owner))

    def _arrange(self) -> None:
        """Lays the sorted cells out in rows."""
        tables = self._blocks.tables
        row = (self._keys >> 16) // self._scale.size
        self.sizes = np.bincount(row, minlength=tables)
        self._starts = np.cumsum(self.sizes) - self.sizes
        column = np.arange(row.size) - self._starts[row]
        width = int(self.sizes.max())
        means = self._sum / self._count
        self.values = np.full((tables, width), np.inf)
        self.values[row, column] = means
        if self.centres is None:
            middle = means[self._starts + self.sizes // 2]
            self.centres = middle.astype(np.float32).astype(np.float64)[:, None]
        self.counts = np.zeros((tables, width + 1))
        self.counts[row, column + 1] = self._count
        np.cumsum(self.counts, axis=1, out=self.counts)
        self.sums = np.zeros((tables, width + 1))
        self.sums[row, column + 1] = sums = self._sum - self.centres[row, 0] * self._count
        squares = np.zeros((tables, width))
        squares[row, column] = sums * sums / self._count
        self.energy = np.cumsum(squares, axis=1)[:, -1]
        np.cumsum(self.sums, axis=1, out=self.sums)

    def below(self, bounds: np.ndarray, *, axis: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Counts and sums below bounds; ``axis`` is that of the tables, the first or the last."""
        rows = np.arange(self.sizes.size) * self.counts.shape[1]
        places = bounds + (rows if axis else rows[:, None])
        return self.counts.reshape(-1).take(places), self.sums.reshape(-1).take(places)

    def search(self, wanted: np.ndarray) -> np.ndarray:
        """The bounds below which all cells of their row are less than ``wanted``, 2-dimensional."""
        found = torch.searchsorted(torch.from_numpy(self.values), torch.from_numpy(wanted))
        return found.numpy()

    def undecided(self, limits: np.ndarray) -> np.ndarray:
        """Cells that may hold values on both sides of ``limits``, and the cells next to them.

        Returns:
            What ``refine`` takes; nothing if the cells of ``limits`` themselves are all decided.
        """
        cells = (self._keys_of(limits) >> 16).reshape(-1)
        cells = cells[cells < self._open.size]
        cells = cells[self._open[cells]]
        places = np.searchsorted(self._keys, cells << 16)[:, None] + np.arange(-1, 2)
        near = self._keys[np.clip(places, 0, self._keys.size - 1)] >> 16
        near = near[near // self._scale.size == (cells // self._scale.size)[:, None]]
        wanted = np.zeros_like(self._open)
        wanted[near] = True
        return np.flatnonzero(wanted & self._open)

    def having(self, cells: np.ndarray) -> np.ndarray:
        """Of each row whether it has some of ``cells``."""
        rows = np.zeros(self._blocks.tables, dtype=bool)
        rows[cells // self._scale.size] = True
        return rows

    def _keys_of(self, limits: np.ndarray) -> np.ndarray:
        """The least keys of values of at least ``limits``, of each row."""
        rows = (np.arange(limits.shape[0]) * (self._scale.size << 16))[:, None]
        end = self._scale.size << 16
        keys = np.full(limits.shape, end)
        finite = np.isfinite(limits)
        keys[finite] = self._scale.limits(limits[finite])
        return keys + rows

    def all_undecided(self, tables: np.ndarray) -> np.ndarray:
        """All cells of the rows where ``tables`` is true that may hold different values."""
        cells = self._keys >> 16
        return cells[self._open[cells] & tables[cells // self._scale.size]]

    def refine(self, cells: np.ndarray, bounds: np.ndarray, *, wholly: bool = False) -> np.ndarray:
        """Replaces cells by narrower ones, and tells where ``bounds`` are afterwards.

        Args:
            wholly: into their distinct values, else into some tens of parts.
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
        """Bits of the values in less than 2**16 cells, and in which of these they are."""
        table = np.zeros(self._open.size, dtype=np.uint16)
        table[cells] = np.arange(1, cells.size + 1)
        for _, bits, _, number in self._look_up(table):
            places = np.flatnonzero(number != 0)
            yield bits[places], number[places] - 1

    def _split(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Keys, counts and sums of parts of cells."""
        histogram = Histogram(cells.size << _SPLIT)
        below = max(16 - self._scale.bits - _SPLIT, 0)
        mask = (1 << _SPLIT) - 1
        for bits, number in self._chosen(cells):
            part = number.astype(np.int64) << _SPLIT
            part |= (lows_of(bits) >> below) & mask
            histogram.add(part, bits)
        counts, lows = histogram.result()
        used = np.flatnonzero(counts)
        cell, counts, lows = cells[used >> _SPLIT], counts[used], lows[used]
        inner = (cell % self._scale.size) & ((1 << self._scale.bits) - 1)
        low = inner << (16 - self._scale.bits) | (used & mask) << below
        return cell << 16 | low, counts, self._scale.sums(cell % self._scale.size, counts, lows)

    def _distinct(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Keys, counts and sums of the distinct values in cells."""
        chosen = [(number, lows_of(bits).astype(np.uint16)) for bits, number in self._chosen(cells)]
        number, low = map(np.concatenate, zip(*chosen, strict=True))
        # A stable sort of 16-bit integers is a radix sort: by far the fastest.
        order = np.argsort(low, kind="stable")
        order = order[np.argsort(number[order], kind="stable")]
        keys = (cells[number[order]] << 16) | low[order]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        keys, counts = keys[first], np.diff(first, append=keys.size)
        cell, low = (keys >> 16) % self._scale.size, keys & LOW
        low = np.where(self._scale.tops[cell >> self._scale.bits] < 0x8000, low, LOW - low)
        return keys, counts, self._scale.sums(cell, counts, counts * low)

    def codes(self, limits: np.ndarray, out: np.ndarray) -> None:
        """Writes how many limits of its row each value has reached, in the shape of the matrix."""
        inner = limits.shape[1]
        limits = self._keys_of(limits).reshape(-1)
        cells = self._keys[np.flatnonzero(np.diff(self._keys >> 16, prepend=-1))] >> 16
        before = cells // self._scale.size * inner
        least = np.searchsorted(limits, cells << 16, side="right") - before
        most = np.searchsorted(limits, cells << 16 | LOW, side="right") - before
        table = np.zeros(self._open.size, dtype=np.uint16)
        table[cells] = np.where(least == most, least, _LAST_CODE + 1)  # else look at the value
        for where, bits, owner, code in self._look_up(table):
            places = np.flatnonzero(code > _LAST_CODE)
            code = code.astype(np.uint8)
            bits = bits[places]
            owner = None if owner is None else owner[places]
            keys = self._numbers(bits, owner) << 16 | lows_of(bits)
            before = 0 if owner is None else owner * inner
            code[places] = np.searchsorted(limits, keys, side="right") - before
            out[where] = code.reshape(out[where].shape)
