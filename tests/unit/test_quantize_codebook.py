"""Protects the scalar k-means: never worse than upstream's, the same bits everywhere."""

import hashlib
import inspect
import os
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
import torch
from coremltools.models.neural_network import quantization_utils
from torchao.prototype.quantization.codebook_coreml import codebook_ops

from scripts.errors import ModelError
from scripts.quantize.codebook import kmeans, solver


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


def test_upstream_is_what_we_read():
    """The replaced function, and the caller that decides blocks, shapes and dtypes."""
    assert version("coremltools") == "9.0"
    sources = [
        inspect.getsource(quantization_utils._get_kmeans_lookup_table_and_weight),
        inspect.getsource(codebook_ops),
    ]
    assert hashlib.sha256("".join(sources).encode()).hexdigest() == (
        "449ff5835f0e83a11d444a5cdf2afbda6c6f84186c80b64f8a8e3d396907bc78"
    )


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


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(7),
        np.array([3.0]),
        np.array([1.0, 1.0, 2.0]),
        np.array([-0.0, 0.0, -0.0, 1.0]),
        np.array([1e30, -1e30, 1e-30]),
        np.array([5e-324, 0.0, 1.0]),
        np.linspace(-7, 1, 256),
    ],
)
def test_fewer_values_than_clusters_are_exact(values):
    """No empty cluster, no invented value, ascending centres, zero error."""
    centres, codes = kmeans(values, 256)
    assert np.array_equal(centres[codes], values)
    assert np.array_equal(centres, np.unique(values))
    assert codes.dtype == np.uint8


@pytest.mark.parametrize("bad", [np.array([1.0, np.nan]), np.array([np.inf, 1.0]), np.empty(0)])
def test_values_without_means_are_refused(bad):
    with pytest.raises(ModelError, match="finite"):
        kmeans(bad, 4)


def test_the_order_of_values_does_not_count():
    values = tensors()["heavy_tail"].astype(np.float32).reshape(-1)
    shuffled = np.random.default_rng(2).permutation(values.size)
    centres, codes = kmeans(values, 64)
    again, moved = kmeans(values[shuffled], 64)
    assert np.array_equal(centres, again)
    assert np.array_equal(codes[shuffled], moved)


@pytest.mark.parametrize("block_size", [[-1, -1], [16, -1], [-1, 16], [64, -1]])
@pytest.mark.parametrize("bits", [1, 3, 8])
def test_shapes_and_dtypes_are_torchaos(block_size, bits):
    weight = torch.tensor(trained_layer(), dtype=torch.float32)
    choose = codebook_ops.choose_qparams_and_quantize_codebook_coreml
    dtype = getattr(torch, f"uint{bits}")
    theirs = choose(weight, dtype, block_size)
    with solver("exact", bits):
        ours = choose(weight, dtype, block_size)
    assert [(t.shape, t.dtype) for t in ours] == [(t.shape, t.dtype) for t in theirs]
    restored = [
        codebook_ops.dequantize_codebook(codes.int(), table, bits, block_size)
        for table, codes in (ours, theirs)
    ]
    errors = [float(((value - weight) ** 2).mean()) for value in restored]
    assert errors[0] <= errors[1] * (1 + 1e-6)


def test_vectors_are_left_to_upstream():
    with solver("exact", 2), pytest.raises(ModelError, match="vectors"):
        quantization_utils._get_kmeans_lookup_table_and_weight(2, torch.randn(4, 4), False, 2)


DIGEST_OF_TABLES = """
import hashlib, numpy as np
from scripts.quantize.codebook import kmeans
rng = np.random.default_rng(0)
digest = hashlib.sha256()
for values in (rng.normal(size=20000), rng.standard_t(3, size=20000)):
    for clusters in (2, 16, 256):
        for part in kmeans(values.astype(np.float32), clusters):
            digest.update(part.tobytes())
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_the_same_bits_on_every_processor():
    """Threads and instruction sets (numpy's, torch's) must not reach the tables."""
    settings = [
        {"OMP_NUM_THREADS": "1"},
        {"OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "7"},
        {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512_SKX AVX512_ICL", "GLIBC_TUNABLES": ""},
        {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512_SKX AVX512_ICL"},
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
