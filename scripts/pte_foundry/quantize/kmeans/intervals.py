"""Clusters as intervals of sorted cells: their gains, and moves of bounds that raise the gain.

A cluster with n values of sum s lowers the squared error by s²/n, its *gain*: the squared error of
a table is the energy of its cells less the gains of its clusters. For shapes and dtypes of bounds
see ``pte_foundry.quantize.kmeans.cells.Cells``.
"""

from collections.abc import Callable

import numpy as np

from pte_foundry.quantize.kmeans.cells import Cells

# How far a bound may move at once, in steps.
MOVES = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
_MOST_ROUNDS = 100


def gain(counts: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Gains of clusters, given how many values they have and their sums; any shape, float64."""
    return sums * sums / np.maximum(counts, 1.0)


def total_gain(cells: Cells, bounds: np.ndarray) -> np.ndarray:
    """The sum of the gains of each table's clusters, float64 of shape (tables,)."""
    counts, sums = cells.below(bounds)
    gains = gain(np.diff(counts), np.diff(sums))
    return np.cumsum(gains, axis=1)[:, -1]


def cluster_means(cells: Cells, bounds: np.ndarray) -> np.ndarray:
    """The mean of each cluster, float64 of shape (tables, clusters); empty ones: ``offsets``."""
    counts, sums = cells.below(bounds)
    return np.diff(sums) / np.maximum(np.diff(counts), 1.0) + cells.offsets


def midpoints(means: np.ndarray) -> np.ndarray:
    """The midpoints of neighbours: (tables, clusters) to (tables, clusters - 1), float64."""
    return (means[:, :-1] + means[:, 1:]) / 2


def improve(
    cells: Cells,
    bounds: np.ndarray,
    active: np.ndarray,
    move: Callable[[np.ndarray], np.ndarray],
    tolerance: float,
) -> np.ndarray:
    """Repeats a move for each table until it gains nothing worth while; returns the bounds.

    Args:
        active: mask of the tables to improve, of shape (tables,).
        move: new bounds from old ones; a table keeps its old ones if they gain no more, or if a
            cluster became empty.
        tolerance: a table is done when a move lowers its squared error by less than this part.
    """
    best = total_gain(cells, bounds)
    for _ in range(_MOST_ROUNDS):
        moved = move(bounds)
        other = total_gain(cells, moved)
        better = active & (other > best) & (np.diff(moved) > 0).all(axis=1)
        bounds = np.where(better[:, None], moved, bounds)
        active = better & (other - best > tolerance * (cells.energy - other))
        best = np.where(better, other, best)
        if not active.any():
            break
    return bounds


def shift(cells: Cells, bounds: np.ndarray, step: float) -> np.ndarray:
    """The best of all bounds near the midpoints of the means, by dynamic programming.

    ``step`` is in distances of neighbouring means; each bound makes one of ``MOVES``.
    """
    means = cluster_means(cells, bounds)
    limits = midpoints(means)[:, :, None] + (np.diff(means) * step)[:, :, None] * MOVES
    tables, inner, width = limits.shape
    choices = np.zeros((width, inner + 2, tables), dtype=np.int64)
    found = cells.search(limits.reshape(tables, -1)).reshape(limits.shape)
    choices[:, 1:-1] = found.transpose(2, 1, 0)
    choices[:, -1] = cells.sizes
    counts, sums = cells.below(choices, axis=-1)
    # Axes: choice of the lower bound, choice of the upper bound, cluster, table.
    counts = counts[None, :, 1:] - counts[:, None, :-1]
    gains = gain(counts, sums[None, :, 1:] - sums[:, None, :-1])
    gains[counts <= 0] = -np.inf
    chosen = _best_path(gains)
    return choices[chosen, np.arange(inner + 2)[:, None], np.arange(tables)].T


def _best_path(gains: np.ndarray) -> np.ndarray:
    """Choices with the greatest sum of gains.

    Args:
        gains: float64 of shape (choices of the lower bound, choices of the upper bound, clusters,
            tables).

    Returns:
        The choice for each bound, int64 of shape (clusters + 1, tables).
    """
    width, _, clusters, tables = gains.shape
    length = 1 << (clusters - 1).bit_length()
    # Neighbours are joined until one is left; joined with nothing, a cluster stays as it is.
    nothing = np.zeros((width, width, length - clusters, tables))
    best = np.concatenate((gains, nothing), axis=2) if nothing.size else gains
    middles = []
    while best.shape[2] > 1:
        lower, upper = best[:, :, ::2], best[:, :, 1::2]
        best = lower[:, :1] + upper[:1]
        middle = np.zeros(best.shape, dtype=np.int8)
        for choice in range(1, width):
            other = lower[:, choice : choice + 1] + upper[choice : choice + 1]
            np.copyto(middle, choice, where=other > best)
            np.maximum(best, other, out=best)
        middles.append(middle)
    chosen = np.zeros((length + 1, tables), dtype=np.int64)
    for middle in reversed(middles):
        number, step = middle.shape[2], length // middle.shape[2]
        ends = chosen[::step]
        places = ends[:-1], ends[1:], np.arange(number)[:, None], np.arange(tables)
        chosen[step // 2 :: step] = middle[places]
    return chosen[: clusters + 1]


def lloyd(cells: Cells, bounds: np.ndarray) -> np.ndarray:
    """One iteration of Lloyd's algorithm: bounds at the midpoints of the means."""
    inner = cells.search(midpoints(cluster_means(cells, bounds)))
    return np.concatenate((bounds[:, :1], inner, bounds[:, -1:]), axis=1)


def split_and_merge(cells: Cells, bounds: np.ndarray) -> np.ndarray:
    """Bounds with some clusters split and as many merged, where that raises the gain."""
    middle = np.clip(cells.search(cluster_means(cells, bounds)), bounds[:, :-1], bounds[:, 1:])
    (counts, sums), (inside, part) = cells.below(bounds), cells.below(middle)
    whole = gain(np.diff(counts), np.diff(sums))
    gained = gain(inside - counts[:, :-1], part - sums[:, :-1])
    gained += gain(counts[:, 1:] - inside, sums[:, 1:] - part) - whole
    both = gain(counts[:, 2:] - counts[:, :-2], sums[:, 2:] - sums[:, :-2])
    lost = whole[:, :-1] + whole[:, 1:] - both
    moved = bounds.copy()
    for table in np.flatnonzero(gained.max(axis=1) > lost.min(axis=1)):
        splits, merges = _pairs(gained[table], lost[table])
        kept = np.delete(bounds[table], np.array(merges, dtype=np.int64) + 1)
        moved[table] = np.sort(np.concatenate((kept, middle[table][splits])))
    return moved


def _pairs(gained: np.ndarray, lost: np.ndarray) -> tuple[list[int], list[int]]:
    """Clusters to split, and as many to merge with the next one; no cluster is used twice.

    ``gained`` is what splitting each cluster gains, ``lost`` what merging each with the next loses.
    """
    merges = np.argsort(lost, kind="stable").tolist()
    touched: set[int] = set()
    chosen: tuple[list[int], list[int]] = ([], [])
    for split in np.argsort(-gained, kind="stable").tolist():
        if split in touched:
            continue
        free = (m for m in merges if touched.isdisjoint((m, m + 1)) and split not in (m, m + 1))
        merge = next(free, None)
        if merge is None or not gained[split] > lost[merge]:
            break
        touched |= {split, merge, merge + 1}
        chosen[0].append(split)
        chosen[1].append(merge)
    return chosen
