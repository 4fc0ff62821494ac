"""Clusters as intervals of sorted cells: what they gain, and moves of bounds that gain more."""

from collections.abc import Callable

import numpy as np

from pte_foundry.quantize.kmeans.cells import Cells

# A move by steps can be a whole step, or half of one.
MOVES = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
_MOST_MOVES = 100


def gain_of(counts: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """By how much clusters lower the squared error, given what they hold; the higher the better."""
    return sums * sums / np.maximum(counts, 1.0)


def apart(rows: np.ndarray) -> np.ndarray:
    return rows[:, 1:] - rows[:, :-1]


def total_gain(cells: Cells, bounds: np.ndarray) -> np.ndarray:
    """Of each table, the sum of its clusters' gains."""
    counts, sums = cells.below(bounds)
    gains = gain_of(apart(counts), apart(sums))
    return np.cumsum(gains, axis=1)[:, -1]


def means_of(cells: Cells, bounds: np.ndarray) -> np.ndarray:
    counts, sums = cells.below(bounds)
    return apart(sums) / np.maximum(apart(counts), 1.0) + cells.centres


def midpoints(means: np.ndarray) -> np.ndarray:
    return (means[:, :-1] + means[:, 1:]) / 2


def repeat(
    cells: Cells,
    bounds: np.ndarray,
    active: np.ndarray,
    move: Callable[[np.ndarray], np.ndarray],
    tolerance: float,
) -> np.ndarray:
    """Moves the bounds of each active table for as long as that gains something worth while."""
    gain = total_gain(cells, bounds)
    for _ in range(_MOST_MOVES):
        moved = move(bounds)
        other = total_gain(cells, moved)
        better = active & (other > gain) & (apart(moved) > 0).all(axis=1)
        bounds = np.where(better[:, None], moved, bounds)
        active = better & (other - gain > tolerance * (cells.energy - other))
        gain = np.where(better, other, gain)
        if not active.any():
            break
    return bounds


def shift(cells: Cells, bounds: np.ndarray, step: float) -> np.ndarray:
    """The best bounds of all that are near the midpoints of the means, by dynamic programming."""
    means = means_of(cells, bounds)
    moves = midpoints(means)[:, :, None] + (apart(means) * step)[:, :, None] * MOVES
    tables, inner, width = moves.shape
    choices = np.zeros((width, inner + 2, tables), dtype=np.int64)
    found = cells.search(moves.reshape(tables, -1)).reshape(moves.shape)
    choices[:, 1:-1] = found.transpose(2, 1, 0)
    choices[:, -1] = cells.sizes
    counts, sums = cells.below(choices, axis=-1)
    # By choice of the lower bound, choice of the upper bound, cluster, table.
    counts = counts[None, :, 1:] - counts[:, None, :-1]
    gains = gain_of(counts, sums[None, :, 1:] - sums[:, None, :-1])
    gains[counts <= 0] = -np.inf
    chosen = _best_path(gains)
    return choices[chosen, np.arange(inner + 2)[:, None], np.arange(tables)].T


def _best_path(gains: np.ndarray) -> np.ndarray:
    """Choices whose gains have the greatest sum.

    Args:
        gains: by choice at the lower end, choice at the upper end, cluster, table.

    Returns:
        A choice at each end of a cluster, one more than there are clusters, by table.
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
    """The bounds at the midpoints of the means."""
    inner = cells.search(midpoints(means_of(cells, bounds)))
    return np.concatenate((bounds[:, :1], inner, bounds[:, -1:]), axis=1)


def exchange(cells: Cells, bounds: np.ndarray) -> np.ndarray:
    """Splits clusters and merges others wherever that lowers the error."""
    middle = np.clip(cells.search(means_of(cells, bounds)), bounds[:, :-1], bounds[:, 1:])
    (counts, sums), (inside, part) = cells.below(bounds), cells.below(middle)
    whole = gain_of(apart(counts), apart(sums))
    gained = gain_of(inside - counts[:, :-1], part - sums[:, :-1])
    gained += gain_of(counts[:, 1:] - inside, sums[:, 1:] - part) - whole
    both = gain_of(counts[:, 2:] - counts[:, :-2], sums[:, 2:] - sums[:, :-2])
    lost = whole[:, :-1] + whole[:, 1:] - both
    moved = bounds.copy()
    for table in np.flatnonzero(gained.max(axis=1) > lost.min(axis=1)):
        splits, merges = _pairs(gained[table], lost[table])
        kept = np.delete(bounds[table], np.array(merges, dtype=np.int64) + 1)
        moved[table] = np.sort(np.concatenate((kept, middle[table][splits])))
    return moved


def _pairs(gained: np.ndarray, lost: np.ndarray) -> tuple[list[int], list[int]]:
    """Clusters to split and clusters to merge with the next: as many, and no cluster twice."""
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
