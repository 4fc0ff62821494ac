"""Where k-means starts: dynamic programming over a coarse grid, or over all of few values."""

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from pte_foundry.quantize.kmeans.cells import Cells
from pte_foundry.quantize.kmeans.intervals import apart, gain_of

# How many parts of the grid a cluster can have, and how many parts its bound can lie aside of where
# it would be if all clusters had equally many.
REACH, _ASIDE = 32, 64


def _grid(cells: Cells, clusters: int, parts: int) -> np.ndarray:
    """Bounds that cut each row into parts which deserve equally many levels.

    The density of levels that is optimal for ever finer tables goes with the cube root of the
    values' density. Between neighbouring cells with n values in a gap g that is n/g, so the gap
    deserves (n·g²)^(1/3) levels; here (n·g²)^(21/64), as square roots are the same everywhere.
    """
    count = apart(cells.counts)
    gaps = np.zeros((count.shape[0], max(count.shape[1] - 1, 1)))
    np.subtract(cells.values[:, 1:], cells.values[:, :-1], out=gaps, where=count[:, 1:] > 0)
    fourth = np.sqrt(np.sqrt((count[:, 1:] + count[:, :-1]) * gaps * gaps))
    sixteenth = np.sqrt(np.sqrt(fourth))
    levels = fourth * sixteenth * np.sqrt(np.sqrt(sixteenth))
    for _ in range(6):  # no gap can use more than one level: the rest is for the others
        levels = np.minimum(levels, np.cumsum(levels, axis=1)[:, -1:] / clusters)
    sums = torch.from_numpy(np.cumsum(levels, axis=1))
    inner = torch.searchsorted(sums, sums[:, -1:] * (torch.arange(1, parts) / parts)).numpy() + 1
    sizes = cells.sizes[:, None]
    return np.concatenate((np.zeros_like(sizes), np.minimum(inner, sizes), sizes), axis=1)


def parts_of_grid(clusters: int) -> int:
    return clusters * (8 if clusters <= 32 else 4)


def start(cells: Cells, clusters: int) -> np.ndarray:
    """The best bounds on a grid, by dynamic programming, not too far from an even distribution."""
    parts = parts_of_grid(clusters)
    each = parts // clusters
    grid = _grid(cells, clusters, parts)
    counts, sums = cells.below(grid)
    before = np.pad(counts, ((0, 0), (REACH, 0)), constant_values=np.inf)
    counts = counts[:, :, None] - sliding_window_view(before[:, :-1], REACH, axis=1)
    before = sliding_window_view(np.pad(sums, ((0, 0), (REACH, 0)))[:, :-1], REACH, axis=1)
    gains = gain_of(counts, sums[:, :, None] - before)
    gains[counts <= 0] = -np.inf
    # The best of all below a place of the grid, with one cluster less and with one more.
    best, other = np.full((2, grid.shape[0], REACH + parts), -np.inf)
    best[:, REACH] = 0.0
    windows = [sliding_window_view(rows, REACH, axis=1) for rows in (best, other)]
    lower = []
    for number in range(1, clusters + 1):
        first = min(max(number * each - _ASIDE, 0), parts)
        last = min(number * each + _ASIDE, parts)
        total = gains[:, first : last + 1] + windows[0][:, first : last + 1]
        lower.append((first, total.argmax(axis=2)))
        other.fill(-np.inf)
        most = np.maximum.reduce(total, axis=2)[:, : parts - first]
        other[:, REACH + first : REACH + first + most.shape[1]] = most
        best, other = other, best
        windows.reverse()
    row, place = np.arange(grid.shape[0]), np.full(grid.shape[0], parts)
    bounds = np.empty((grid.shape[0], clusters + 1), dtype=np.int64)
    for number in range(clusters, 0, -1):
        first, choice = lower[number - 1]
        place = np.clip(place, first, first + choice.shape[1] - 1)  # if there is no way at all
        bounds[:, number] = grid[row, place]
        place = place - REACH + choice[row, place - first]
    bounds[:, 0] = 0
    return _spread(bounds, cells.sizes[:, None])


def _spread(bounds: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Gives each cluster a cell, as far as there are enough."""
    number = np.arange(bounds.shape[1])
    bounds = np.maximum.accumulate(bounds - number, axis=1) + number
    return np.minimum(bounds, np.maximum(sizes - number[-1], 0) + np.minimum(number, sizes))


def optimum(cells: Cells, table: int, clusters: int) -> np.ndarray:
    """The bounds of one table with the highest gain there is; it takes all pairs of cells."""
    size = int(cells.sizes[table])
    counts, sums = cells.counts[table, : size + 1], cells.sums[table, : size + 1]
    counts = counts[:, None] - counts
    gains = gain_of(counts, sums[:, None] - sums)
    gains[counts <= 0] = -np.inf
    best = np.full(size + 1, -np.inf)
    best[0] = 0.0
    lower = []
    for _ in range(clusters):
        total = gains + best
        lower.append(total.argmax(axis=1))
        best = total.max(axis=1)
    bounds = [size]
    for choice in reversed(lower):
        bounds.append(int(choice[bounds[-1]]))
    return np.array(bounds[::-1])
