"""First clusters for k-means, by dynamic programming: over a coarse grid, or over few cells."""

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from pte_foundry.quantize.kmeans.cells import Cells
from pte_foundry.quantize.kmeans.intervals import gain

# The most parts of the grid that a cluster can have, and the most parts between its bound and where
# it would be if all clusters had equally many.
REACH, _DEVIATION = 32, 64


def grid_parts(clusters: int) -> int:
    """The number of parts of the grid that :func:`seed` searches."""
    return clusters * (8 if clusters <= 32 else 4)


def _grid(cells: Cells, clusters: int, parts: int) -> np.ndarray:
    """Bounds, int64 of shape (tables, parts + 1), of parts that deserve equally many centres.

    For ever larger tables, the optimal density of centres is proportional to the cube root of the
    density of the values (Panter and Dite, Quantization distortion in pulse-count modulation with
    nonuniform spacing of levels, Proc. IRE 39, 1951). Between neighbouring cells with n values in a
    gap g that is n/g, so the gap deserves (n·g²)^(1/3) centres; here (n·g²)^(21/64), because square
    roots are the same everywhere.
    """
    count = np.diff(cells.counts)
    gaps = np.zeros((count.shape[0], max(count.shape[1] - 1, 1)))
    np.subtract(cells.values[:, 1:], cells.values[:, :-1], out=gaps, where=count[:, 1:] > 0)
    fourth = np.sqrt(np.sqrt((count[:, 1:] + count[:, :-1]) * gaps * gaps))
    sixteenth = np.sqrt(np.sqrt(fourth))
    levels = fourth * sixteenth * np.sqrt(np.sqrt(sixteenth))
    for _ in range(6):  # no gap can use more than one centre: the rest is for the others
        levels = np.minimum(levels, np.cumsum(levels, axis=1)[:, -1:] / clusters)
    sums = torch.from_numpy(np.cumsum(levels, axis=1))
    inner = torch.searchsorted(sums, sums[:, -1:] * (torch.arange(1, parts) / parts)).numpy() + 1
    sizes = cells.sizes[:, None]
    return np.concatenate((np.zeros_like(sizes), np.minimum(inner, sizes), sizes), axis=1)


def seed(cells: Cells, clusters: int) -> np.ndarray:
    """The best bounds on a grid, with clusters of at most ``REACH`` parts, by dynamic programming.

    Returns:
        Bounds of all tables, int64 of shape (tables, clusters + 1).
    """
    parts = grid_parts(clusters)
    each = parts // clusters
    grid = _grid(cells, clusters, parts)
    counts, sums = cells.below(grid)
    before = np.pad(counts, ((0, 0), (REACH, 0)), constant_values=np.inf)
    counts = counts[:, :, None] - sliding_window_view(before[:, :-1], REACH, axis=1)
    before = sliding_window_view(np.pad(sums, ((0, 0), (REACH, 0)))[:, :-1], REACH, axis=1)
    gains = gain(counts, sums[:, :, None] - before)
    gains[counts <= 0] = -np.inf
    # The best gain of all below a place of the grid, with one cluster less and with one more.
    best, other = np.full((2, grid.shape[0], REACH + parts), -np.inf)
    best[:, REACH] = 0.0
    windows = [sliding_window_view(rows, REACH, axis=1) for rows in (best, other)]
    lower = []
    for number in range(1, clusters + 1):
        first = min(max(number * each - _DEVIATION, 0), parts)
        last = min(number * each + _DEVIATION, parts)
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
    return _without_empty(bounds, cells.sizes[:, None])


def _without_empty(bounds: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Moves bounds so that each cluster has a cell, as far as a row has enough of them.

    ``sizes`` is int64 of shape (tables, 1).
    """
    number = np.arange(bounds.shape[1])
    bounds = np.maximum.accumulate(bounds - number, axis=1) + number
    return np.minimum(bounds, np.maximum(sizes - number[-1], 0) + np.minimum(number, sizes))


def optimum(cells: Cells, table: int, clusters: int) -> np.ndarray:
    """The bounds of one table with the greatest gain, int64 of shape (clusters + 1,).

    Time and memory grow with the square of the table's number of cells, which must be at least
    ``clusters``.
    """
    size = int(cells.sizes[table])
    counts, sums = cells.counts[table, : size + 1], cells.sums[table, : size + 1]
    counts = counts[:, None] - counts
    gains = gain(counts, sums[:, None] - sums)
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
