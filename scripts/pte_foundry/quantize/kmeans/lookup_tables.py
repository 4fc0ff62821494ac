"""K-means for scalars, of many tables at once: fast, nearly optimal, and the same everywhere.

Scalars can be sorted. Then a cluster is an interval, and what one contributes to the error follows
from prefix sums of counts and values; ``pte_foundry.quantize.kmeans.cells`` has these without sorting all.

Dynamic programming over intervals (H. Wang and M. Song, Ckmeans.1d.dp, The R Journal 3/2, 2011)
finds the best clustering of a coarse grid, then the best of all combinations in which every bound
moves by no, half or a whole step, with smaller and smaller steps; Lloyd's step ends it. With few
distinct values it takes all of them, and the result is the global optimum. Every step works on a
whole group of tables. At the end each value has its nearest centre, exactly; a further step of
Lloyd's would lower the error by about a millionth.

All that decides the result is integer sums, sequential float64 sums, correctly rounded arithmetic
(+ - * / sqrt) and comparisons. How tables are grouped is no part of it. So it is the same for any
number of threads and any instruction set.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch

from pte_foundry.errors import ModelError
from pte_foundry.quantize.kmeans.bins import Blocks, Scale
from pte_foundry.quantize.kmeans.cells import Cells
from pte_foundry.quantize.kmeans.intervals import (
    MOVES,
    exchange,
    lloyd,
    means_of,
    midpoints,
    repeat,
    shift,
)
from pte_foundry.quantize.kmeans.seeding import REACH, optimum, parts_of_grid, start

# Cells a cluster that a matrix is cut into before some are refined; more if there are more values
# than so many times as many, as those in refined cells take memory.
_FINENESS, _HELD = 64, 1 << 15
# ... but not into more than one for so many values.
_SPARSE = 8
# With no more distinct values than this the global optimum is found.
_FEW = 256
# Entries of the largest arrays with which a group of tables is solved.
_GROUP = 1 << 17
# Steps by which bounds move, in distances of neighbouring centres: at first, and once the cells
# where they lie are refined.
_COARSE, _FINE = (1 / 4, 1 / 16, 1 / 64), (1 / 32, 1 / 128, 1 / 512)
# Moves of one kind end when one gains less than this part of the error; moves by steps already when
# it is less than this part of the square of the step.
_TOLERANCE = 1e-6
_COARSENESS = 1e-2


def _solve(cells: Cells, clusters: int) -> np.ndarray:
    """Bounds of all tables; with fewer values than clusters the last clusters are empty."""
    few = cells.sizes <= max(_FEW, _SPARSE * clusters)
    if (undecided := cells.all_undecided(few)).size:
        cells.refine(undecided, np.zeros((few.size, 1), dtype=np.int64), wholly=True)
    bounds = np.minimum(np.arange(clusters + 1), cells.sizes[:, None])
    few = cells.sizes <= max(_FEW, clusters)
    for table in np.flatnonzero(few & (cells.sizes > clusters)):
        bounds[table] = optimum(cells, table, clusters)
    if few.all():
        return bounds
    bounds = np.where(few[:, None], bounds, start(cells, clusters))
    bounds = _improve(cells, bounds, ~few, _COARSE)
    undecided = cells.undecided(midpoints(means_of(cells, bounds)))
    if undecided.size:
        active = ~few & cells.having(undecided)
        bounds = _improve(cells, cells.refine(undecided, bounds), active, _FINE)
    return bounds


def _improve(
    cells: Cells, bounds: np.ndarray, active: np.ndarray, steps: tuple[float, ...]
) -> np.ndarray:
    for step in steps:
        tolerance = max(_TOLERANCE, _COARSENESS * step * step)
        bounds = repeat(cells, bounds, active, partial(shift, cells, step=step), tolerance)
    bounds = repeat(cells, bounds, active, partial(exchange, cells), _TOLERANCE)
    return repeat(cells, bounds, active, partial(lloyd, cells), _TOLERANCE)


def _table(cells: Cells, bounds: np.ndarray) -> np.ndarray:
    """The means of all clusters; of empty ones some number."""
    low, high = bounds[:, :-1], bounds[:, 1:]
    last = cells.values.shape[1] - 1
    least = np.take_along_axis(cells.values, np.minimum(low, last), axis=1)
    most = np.take_along_axis(cells.values, np.maximum(high - 1, 0), axis=1)
    # Within its values a mean is exact for equal ones, whatever the sums have rounded.
    return np.clip(means_of(cells, bounds), least, most)


def tables(
    matrix: torch.Tensor, block: tuple[int, int], clusters: int, threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """One table for each block of a matrix, with the least squared error.

    Args:
        matrix: any float dtype; its values are taken as fp32.
        block: rows and columns; they divide those of the matrix, and one of them is equal.
        clusters: entries of a table, 2 to 256; with fewer distinct values each is an entry.
        threads: how many groups of tables are solved at once. The result is the same.

    Returns:
        Tables as float64, of shape (blocks, clusters): centres in ascending order, then zeros if
        there are fewer. And the entry of each value, uint8, in the shape of the matrix.

    Raises:
        ModelError: there is no value, or one is not finite.
    """
    if not matrix.numel():
        raise ModelError("only tensors with at least one value can be clustered")
    codes = np.empty(tuple(matrix.shape), dtype=np.uint8)
    flat, width, size = codes, block[1], block[0] * block[1]
    if width == matrix.shape[1]:
        matrix, flat, width = matrix.reshape(-1, size), codes.reshape(-1, size), None
    blocks = Blocks(matrix, width)
    fineness = max(_FINENESS, size // _HELD) * clusters
    scale = Scale(blocks, min(fineness, size // _SPARSE))
    centres = np.zeros((blocks.tables, clusters))
    entries = (
        scale.size,
        size // _SPARSE,
        clusters * MOVES.size**2,
        parts_of_grid(clusters) * REACH,
    )
    step = max(1, _GROUP // max(entries))

    def solve(first: int) -> None:
        where = blocks.some(first, first + step)
        cells = Cells(Blocks(matrix[where], width), scale)
        bounds = _solve(cells, clusters)
        table = _table(cells, bounds)
        used = bounds[:, :-1] < bounds[:, 1:]
        centres[first : first + step] = np.where(used, table, 0.0)
        limits = np.where(used[:, 1:], midpoints(table), np.inf)
        cells.codes(limits, flat[where])

    groups = range(0, blocks.tables, step)
    if threads == 1 or len(groups) == 1:
        for first in groups:
            solve(first)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(solve, groups))
    return centres, codes


def kmeans(values: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """One table for values of any shape: its centres alone, and the codes in that shape."""
    matrix = torch.from_numpy(values.reshape(1, -1))
    centres, codes = tables(matrix, (1, values.size), clusters)
    used = int(codes.max()) + 1
    return centres[0, :used], codes.reshape(values.shape)
