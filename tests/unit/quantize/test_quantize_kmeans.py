"""Tests the scalar k-means: never worse than upstream's, the same bits everywhere."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from coremltools.models.neural_network import quantization_utils
from pte_foundry.errors import ModelError
from pte_foundry.quantize.kmeans import lookup_tables as module
from pte_foundry.quantize.kmeans.lookup_tables import tables_and_codes


def kmeans(values, clusters):
    """One table for values of any shape: its centres, and the codes in that shape."""
    matrix = torch.from_numpy(values.reshape(1, -1))
    centres, codes = tables_and_codes(matrix, (1, values.size), clusters)
    return centres[0, : int(codes.max()) + 1], codes.reshape(values.shape)


def tensors():
    rng = np.random.default_rng(0)
    mixture = [rng.normal(0, 1, 9000), rng.normal(50, 0.1, 900), rng.normal(-30, 2, 100)]
    return {
        "gaussian": rng.normal(size=(100, 100)),
        "heavy_tail": rng.standard_t(2, size=(100, 100)),
        "cauchy": rng.standard_cauchy(size=(100, 64)),
        "laplace": rng.laplace(size=(64, 200)),
        "uniform": rng.uniform(size=(64, 100)),
        "mixture": np.concatenate(mixture).reshape(100, 100),
        "sparse": rng.normal(size=(100, 100)) * (rng.uniform(size=(100, 100)) < 0.1),
        "few": rng.integers(0, 40, size=(50, 60)) * 0.1,
        "offset": 1000 + 1e-3 * rng.normal(size=(50, 50)),
        "small": rng.normal(size=(4, 10)),
        "layer": trained_layer(),
    }


def trained_layer():
    """A weight as training makes it: low rank, with noise, rows of different sizes."""
    rng = np.random.default_rng(1)
    low_rank = rng.normal(size=(64, 4)) @ rng.normal(size=(4, 96))
    return (low_rank + 0.1 * rng.normal(size=(64, 96))) * rng.gamma(2, size=(64, 1))


def error(table, codes, values):
    return float(np.mean((table.reshape(-1)[codes.reshape(values.shape)] - values) ** 2))


@pytest.mark.parametrize("name", tensors())
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
def test_never_worse_than_upstream(name, bits):
    values = torch.tensor(tensors()[name], dtype=torch.float32)
    table, codes = quantization_utils._get_kmeans_lookup_table_and_weight(bits, values)
    exact = values.double().numpy()
    centres, ours = kmeans(values.numpy(), 1 << bits)
    tiny = 1e-24 * float(np.mean(exact**2))  # upstream's error where every value has a centre
    assert error(centres, ours, exact) <= error(table, codes, exact) * (1 + 1e-9) + tiny


@pytest.mark.parametrize("clusters", [2, 3, 5])
def test_optimal_for_few_values(clusters):
    """Against every partition there is, with ties and repeated values."""
    from itertools import combinations

    rng = np.random.default_rng(clusters)
    for _ in range(20):
        values = np.sort(rng.integers(-6, 7, size=9).astype(np.float64))
        best = min(
            sum(float(((part - part.mean()) ** 2).sum()) for part in np.split(values, cut))
            for cut in combinations(range(1, values.size), clusters - 1)
        )
        centres, codes = kmeans(values, clusters)
        assert error(centres, codes, values) * values.size == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("clusters", [4, 16])
def test_optimal_for_as_many_values_as_int8_has(clusters):
    """Against the textbook's recursion: the least error of the first n values in c clusters."""
    rng = np.random.default_rng(clusters)
    points = np.sort(rng.choice(np.arange(-900, 900), 255, replace=False) * 0.37).astype(np.float32)
    values = rng.permutation(np.concatenate((points, rng.choice(points, 50_000))))
    exact, weights = np.unique(values.astype(np.float64), return_counts=True)
    n, s, q = (np.append(0, np.cumsum(weights * exact**power)) for power in (0, 1, 2))

    def within(first, last):
        return q[last] - q[first] - (s[last] - s[first]) ** 2 / (n[last] - n[first])

    least = [0.0] + [within(0, last) for last in range(1, exact.size + 1)]
    for _ in range(clusters - 1):
        starts = [np.arange(last) for last in range(1, exact.size + 1)]
        least = [0.0] + [
            float(np.min(np.array(least)[first] + within(first, first[-1] + 1))) for first in starts
        ]
    found = error(*kmeans(values, clusters), values.astype(np.float64)) * values.size
    assert found == pytest.approx(least[-1], rel=1e-9)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(7),
        np.array([3.0]),
        np.array([1.0, 1.0, 2.0]),
        np.array([-0.0, 0.0, -0.0, 1.0]),
        np.array([1e30, -1e30, 1e-30]),
        np.array([1e-45, 0.0, 1.0]),
        np.array([3.4e38, -3.4e38, -1e-45]),
        np.linspace(-7, 1, 256),
        np.repeat(np.linspace(-7, 1, 256), 300),
        np.nextafter(np.float32(1.0), np.float32([0.0, 1.0, 2.0])),
    ],
)
def test_fewer_values_than_clusters_are_exact(values):
    """No empty cluster, no invented value, ascending centres, zero error."""
    values = values.astype(np.float32)
    centres, codes = kmeans(values, 256)
    assert np.array_equal(centres[codes], values)
    assert np.array_equal(centres, np.unique(values))
    assert codes.dtype == np.uint8


@pytest.mark.parametrize(
    "bad", [np.array([1.0, np.nan]), np.array([-np.inf, 1.0]), np.array([1.0, 1e39]), np.empty(0)]
)
def test_values_without_means_are_refused(bad):
    with pytest.raises(ModelError, match=r"finite|at least one"):
        kmeans(bad, 4)


@pytest.mark.parametrize("name", tensors())
@pytest.mark.parametrize("clusters", [3, 16, 256])
def test_every_value_has_its_nearest_centre_and_centres_are_means(name, clusters):
    values = tensors()[name].astype(np.float32)
    exact = values.astype(np.float64)
    centres, codes = kmeans(values, clusters)
    assert (np.diff(centres) > 0).all()
    distances = np.abs(exact[..., None] - centres)
    chosen = np.take_along_axis(distances, codes[..., None].astype(int), axis=-1)[..., 0]
    assert np.array_equal(chosen, distances.min(axis=-1))
    sums = np.bincount(codes.reshape(-1), exact.reshape(-1))
    means = sums / np.bincount(codes.reshape(-1))
    now, best = error(centres, codes, exact), error(means, codes, exact)
    assert best <= now * (1 + 1e-9)
    assert now <= best * (1 + 2e-5) + 1e-24 * np.mean(exact**2)


def test_the_order_of_values_does_not_count():
    values = tensors()["heavy_tail"].astype(np.float32).reshape(-1)
    shuffled = np.random.default_rng(2).permutation(values.size)
    centres, codes = kmeans(values, 64)
    again, moved = kmeans(values[shuffled], 64)
    assert np.array_equal(centres, again)
    assert np.array_equal(codes[shuffled], moved)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_values_of_any_dtype_are_those_of_fp32(dtype):
    matrix = torch.tensor(trained_layer()).to(dtype)
    for block in ((64, 96), (16, 96), (64, 32)):
        ours = tables_and_codes(matrix, block, 16)
        expected = tables_and_codes(matrix.float(), block, 16)
        assert all(map(np.array_equal, ours, expected))


def test_a_view_is_read_where_it_lies():
    matrix = torch.tensor(trained_layer(), dtype=torch.float32)
    for block in ((96, 64), (16, 64), (96, 32)):
        ours = tables_and_codes(matrix.T, block, 16)
        expected = tables_and_codes(matrix.T.contiguous(), block, 16)
        assert all(map(np.array_equal, ours, expected))


@pytest.mark.parametrize("block", [(8, 300), (160, 10), (1, 300), (160, 1)])
@pytest.mark.parametrize("clusters", [2, 16, 256])
def test_neither_groups_nor_tiles_count(block, clusters, monkeypatch):
    """Some tables hold few values, some many; groups of one table and of many."""
    rng = np.random.default_rng(3)
    values = rng.standard_t(3, size=(160, 300)) * rng.gamma(2, size=(160, 1))
    values[::3, ::4] = np.round(values[::3, ::4])
    matrix = torch.tensor(values, dtype=torch.float32)
    expected = tables_and_codes(matrix, block, clusters)
    monkeypatch.setattr("pte_foundry.quantize.kmeans.bins._TILE", 1000)
    for group in (1, 1 << 14):
        monkeypatch.setattr(module, "_GROUP", group)
        assert all(map(np.array_equal, tables_and_codes(matrix, block, clusters), expected))


def test_many_values_are_counted_in_turns(monkeypatch):
    """What counts and sums share an integer is emptied before it is full."""
    values = np.random.default_rng(4).normal(size=(300, 100)).astype(np.float32)
    expected = kmeans(values, 64)
    monkeypatch.setattr("pte_foundry.quantize.kmeans.bins._TILE", 1 << 10)
    monkeypatch.setattr("pte_foundry.quantize.kmeans.bins._MOST", 1 << 11)
    monkeypatch.setattr("pte_foundry.quantize.kmeans.cells._AT_ONCE", 1 << 8)
    assert all(map(np.array_equal, kmeans(values, 64), expected))


DIGEST_OF_TABLES = """
import hashlib, numpy as np, torch
from pte_foundry.quantize.kmeans.lookup_tables import tables_and_codes
rng = np.random.default_rng(0)
digest = hashlib.sha256()
for values in (rng.normal(size=(200, 160)), rng.standard_t(3, size=(200, 160))):
    matrix = torch.from_numpy(values).float()
    for clusters in (2, 16, 256):
        for block in ((200, 160), (8, 160), (200, 32)):
            for part in tables_and_codes(matrix, block, clusters):
                digest.update(part.tobytes())
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_the_same_bits_on_every_processor():
    """Threads and instruction sets (numpy's, torch's) must not reach the tables."""
    from pte_foundry.job.deterministic_env import ENVIRONMENT

    settings = [
        {"OMP_NUM_THREADS": "1"},
        {"OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "7"},
        {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512_SKX AVX512_ICL", "GLIBC_TUNABLES": ""},
        {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512_SKX AVX512_ICL"},
        {"ATEN_CPU_CAPABILITY": "avx2"},
        ENVIRONMENT,
    ]
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST_OF_TABLES],
            env=os.environ | extra,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for extra in settings
    }
    assert len(digests) == 1
