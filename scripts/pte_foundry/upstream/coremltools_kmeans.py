"""scikit-learn's k-means, as coremltools calls it, for tables with unused entries; for benchmarks.

Stands against: coremltools 9.0
Repairs: ``_get_kmeans_lookup_table_and_weight`` (``models/neural_network/quantization_utils.py``),
    which fills all ``2**nbits`` entries of a table. Core ML stores tables of 32 and of 128 entries
    with codes of 6 and of 8 bits, so those tables must have unused entries.
Remove when: nothing compares with upstream's k-means, or upstream takes the number of clusters.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

# Not by coremltools_imports: with scikit-learn hidden, coremltools has no k-means.
from coremltools.models.neural_network import quantization_utils

from pte_foundry.upstream.versions import require

_FUNCTION = "_get_kmeans_lookup_table_and_weight"
_PARAMETERS = "nbits weight force_kmeans1d cluster_dim vector_axis"
require(quantization_utils, _FUNCTION, _PARAMETERS, patch=__name__)


@contextmanager
def tables_in_use(bits: int) -> Iterator[None]:
    """Within this context upstream uses the first ``2**bits`` entries of every table.

    Not thread-safe. The rest of a table, for codes of more bits, is zero.
    """
    solve = getattr(quantization_utils, _FUNCTION)

    def padded(nbits: int, weight: torch.Tensor, *options: Any) -> tuple[np.ndarray, np.ndarray]:
        table, codes = solve(bits, weight.detach(), *options)
        return np.pad(table, ((0, (1 << nbits) - len(table)), (0, 0))), codes

    with patch.object(quantization_utils, _FUNCTION, padded):
        yield
