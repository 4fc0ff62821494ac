"""K-means for scalars: the tables and codes of codebook quantization, fast and deterministic.

torchao 0.18's ``CodebookWeightOnlyConfig`` finds each table with coremltools 9.0's
``_get_kmeans_lookup_table_and_weight``, which runs scikit-learn's general k-means: slow, and its
sums depend on the number of threads. Scalars can be sorted. Then a cluster is an interval, its
mean comes from prefix sums, and an exact Lloyd step costs k·log(n) instead of k·n.

The start is the optimal clustering of a coarse grid, by dynamic programming over intervals
(H. Wang and M. Song, Ckmeans.1d.dp, The R Journal 3/2, 2011); with few distinct values the grid
is the values themselves and the result is the global optimum. All that decides the result is
sorting, sequential float64 sums, correctly rounded arithmetic (+ - * / sqrt) and comparisons, so
it is the same for any number of threads and any instruction set.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from scripts.errors import ModelError
from scripts.lean import load_coremltools

# Lloyd steps end when one gains less than this part of the error; each costs microseconds.
_TOLERANCE = 1e-6
_MAX_STEPS = 1000


class _Sorted:
    """Sorted values with prefix sums; an interval [a, b) of ranks is a candidate cluster."""

    def __init__(self, values: np.ndarray) -> None:
        # Adding zero turns -0.0 into 0.0: how sorting orders the two depends on the processor.
        self.values = np.sort(values, axis=None).astype(np.float64) + 0.0
        # Centred, the prefix sums keep their precision if the values are far from zero.
        self.centre = self.values[self.values.size // 2]
        self.sums = np.empty(self.values.size + 1)
        self.sums[0] = 0.0
        centred = self.values - self.centre
        np.cumsum(centred, out=self.sums[1:])
        # What is left of this after all gains is the error.
        self.energy = float(np.cumsum(centred * centred)[-1])

    def means(self, bounds: np.ndarray) -> np.ndarray:
        """Means of the non-empty intervals between consecutive ranks in ``bounds``."""
        means = np.diff(self.sums[bounds]) / np.diff(bounds) + self.centre
        # Exact for clusters of equal values, whatever the sums have rounded.
        return np.clip(means, self.values[bounds[:-1]], self.values[bounds[1:] - 1])

    def gain(self, bounds: np.ndarray) -> float:
        """By how much clustering lowers the squared error; the higher the better."""
        return math.fsum(np.diff(self.sums[bounds]) ** 2 / np.diff(bounds))

    def grid(self, count: int) -> np.ndarray:
        """At most ``count + 1`` ranks, ends included, that cut the values where levels should be.

        The optimal density of levels goes with the cube root of the values' density (P. F. Panter
        and W. Dite, Proc. IRE 39, 1951). A gap g between neighbours tells the density 1/g, so a
        gap deserves g^(2/3) levels; here g^(21/32), as square roots are the same everywhere.
        """
        changes = np.flatnonzero(np.diff(self.values)) + 1
        if changes.size >= count:
            root = np.sqrt(self.values[changes] - self.values[changes - 1])
            share = root * np.sqrt(np.sqrt(np.sqrt(root * np.sqrt(np.sqrt(root)))))
            for _ in range(8):  # no gap can use more than one level: give the rest to the others
                share = np.minimum(share, np.cumsum(share)[-1] / count)
            levels = np.cumsum(share)
            wanted = levels[-1] * (np.arange(1, count) / count)
            changes = changes[np.unique(np.searchsorted(levels, wanted))]
        return np.concatenate(([0], changes, [self.values.size]))


def _optimal_on_grid(data: _Sorted, grid: np.ndarray, clusters: int) -> np.ndarray:
    """The ``clusters + 1`` ranks in ``grid`` that bound the clustering with the highest gain.

    No cluster spans more than ``reach`` cells of the grid, which on a grid of equally important
    cells costs nothing and saves most of the work.
    """
    cells = grid.size - 1
    reach = min(cells, max(64, 16 * cells // clusters))
    before = np.arange(grid.size)[:, None] - np.arange(reach, 0, -1)[None, :]
    low = grid[np.maximum(before, 0)]
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = (data.sums[grid][:, None] - data.sums[low]) ** 2 / (grid[:, None] - low)
    gain[before < 0] = -np.inf
    best = np.full(reach + grid.size, -np.inf)  # of all values below a rank; padded in front
    best[reach] = 0.0
    windows = np.lib.stride_tricks.sliding_window_view(best[:-1], reach)
    rows = np.arange(grid.size)
    choices = []
    for _ in range(clusters):
        total = gain + windows
        choice = total.argmax(axis=1)
        best[reach:] = total[rows, choice]
        choices.append(choice)
    bounds = [cells]
    for choice in reversed(choices):
        bounds.append(bounds[-1] - reach + int(choice[bounds[-1]]))
    return grid[bounds[::-1]]


def _lloyd(data: _Sorted, bounds: np.ndarray) -> np.ndarray:
    """Moves the bounds to the midpoints of the means until that gains nothing any more."""
    gain = data.gain(bounds)
    for _ in range(_MAX_STEPS):
        means = data.means(bounds)
        inner = np.searchsorted(data.values, (means[:-1] + means[1:]) / 2)
        moved = np.concatenate((bounds[:1], inner, bounds[-1:]))
        if np.any(np.diff(moved) <= 0):  # a cluster ran empty: what there is has no such flaw
            break
        before, gain = gain, data.gain(moved)
        if gain <= before:
            break
        bounds = moved
        if gain - before <= _TOLERANCE * (data.energy - gain):
            break
    return bounds


def _exchange(data: _Sorted, bounds: np.ndarray) -> np.ndarray:
    """Splits clusters and merges others wherever that lowers the error; else ``bounds`` itself."""

    def part(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return (data.sums[high] - data.sums[low]) ** 2 / (high - low)

    low, high = bounds[:-1], bounds[1:]
    middle = np.searchsorted(data.values, data.means(bounds))
    whole = part(low, high)
    gained = np.where((low < middle) & (middle < high), part(low, middle), -np.inf)
    gained += part(middle, high) - whole
    lost = whole[:-1] + whole[1:] - part(low[:-1], high[1:])
    splits, merges = np.argsort(-gained, kind="stable"), np.argsort(lost, kind="stable")
    touched: set[int] = set()
    added, removed = [], []
    for split in splits.tolist():
        if split in touched:
            continue
        free = (m for m in merges.tolist() if touched.isdisjoint((m, m + 1)))
        merge = next((m for m in free if split not in (m, m + 1)), None)
        if merge is None or not gained[split] > lost[merge]:
            break
        touched |= {split, merge, merge + 1}
        added.append(middle[split])
        removed.append(bounds[merge + 1])
    if not added:
        return bounds
    return np.sort(np.concatenate((np.setdiff1d(bounds, removed), added)))


def kmeans(values: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Clusters scalars with the least squared error.

    Args:
        values: any shape, any float dtype.
        clusters: how many at most, up to 256; with fewer distinct values each is a cluster.

    Returns:
        Centres in ascending order, float64, of shape (n,), n <= ``clusters``; and of each value
        the index of its centre, uint8, in the shape of ``values``.

    Raises:
        ModelError: there is no value, or one is not finite.
    """
    if values.size == 0 or not np.isfinite(values).all():
        raise ModelError("only tensors of finite values can be clustered, with at least one value")
    data = _Sorted(values)
    bounds = data.grid(min(max(16 * clusters, 256), max(4 * clusters, 512)))
    if bounds.size - 1 > clusters:
        bounds = _optimal_on_grid(data, bounds, clusters)
    improved = _lloyd(data, bounds)
    while data.gain(improved) > data.gain(bounds):
        bounds, improved = improved, _lloyd(data, _exchange(data, improved))
    first = data.values[bounds[1:-1]]  # the least value of each cluster but the lowest
    codes = np.searchsorted(first, values.astype(np.float64), side="right")
    return data.means(bounds), codes.astype(np.uint8)


# Core ML has no codes of 5 and 7 bits (coremltools 9.0, mil/types); the next wider ones carry
# them, with unused entries at the end of the table.
_CARRIERS = {5: 6, 7: 8}


def carrier(bits: int) -> int:
    """Width in bits of the codes that Core ML stores for tables of ``2**bits`` entries."""
    return _CARRIERS.get(bits, bits)


def _exact(
    nbits: int,
    weight: torch.Tensor,
    force_kmeans1d: bool = False,
    cluster_dim: int = 1,
    vector_axis: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """``kmeans`` with the signature and the shapes of the function that it stands in for."""
    if cluster_dim != 1 or vector_axis is not None:
        raise ModelError("codebooks of vectors are not supported; set solver to 'upstream'")
    centres, codes = kmeans(weight.detach().to(torch.float32).numpy(), 1 << nbits)
    table = np.zeros((1 << nbits, 1))
    table[: centres.size, 0] = centres
    return table, codes.reshape(-1)


@contextmanager
def solver(name: str, bits: int) -> Iterator[None]:
    """Makes torchao find tables of ``2**bits`` entries with a given solver; not thread-safe.

    The one place where coremltools' function is replaced; ``tests/unit/test_quantize_codebook.py``
    fails if its source or its caller's is not what was read here.

    Args:
        name: ``exact`` (``kmeans``) or ``upstream`` (scikit-learn).
        bits: 1 to 8; torchao is to be asked for codes of ``carrier(bits)`` bits.
    """
    if name != "upstream":  # which asks coremltools for scikit-learn
        load_coremltools()
    from coremltools.models.neural_network import quantization_utils

    solve = _exact if name == "exact" else quantization_utils._get_kmeans_lookup_table_and_weight

    def padded(nbits: int, weight: torch.Tensor, *options: Any) -> tuple[np.ndarray, np.ndarray]:
        table, codes = solve(bits, weight.detach(), *options)
        return np.pad(table, ((0, (1 << nbits) - len(table)), (0, 0))), codes

    with patch.object(quantization_utils, "_get_kmeans_lookup_table_and_weight", padded):
        yield
