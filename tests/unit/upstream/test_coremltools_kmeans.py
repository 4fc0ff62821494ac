"""Protects the side that our tables are compared with: upstream's k-means, for any width."""

import numpy as np
import pytest
import torch
from coremltools.models.neural_network import quantization_utils
from pte_foundry.upstream.coremltools_kmeans import tables_in_use

from tests.unit.upstream.source_digest import assert_source_digest


def test_upstream_is_what_was_read():
    check = "Can it be told to leave entries of a table unused? Then remove tables_in_use."
    solve = quantization_utils._get_kmeans_lookup_table_and_weight
    assert_source_digest(
        solve, "195b3f07294c3418f25deb6bf50a3d822c65f05abdae938958a801bbd68352bb", check
    )


@pytest.mark.parametrize(("bits", "carried"), [(2, 3), (5, 6), (7, 8)])
def test_the_end_of_a_table_is_unused(bits, carried):
    weight = torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
    with tables_in_use(bits):
        solve = quantization_utils._get_kmeans_lookup_table_and_weight
        table, codes = solve(carried, weight)
    narrow, same = quantization_utils._get_kmeans_lookup_table_and_weight(bits, weight)
    assert table.shape == (1 << carried, 1)
    assert np.array_equal(table[: 1 << bits], narrow)
    assert not table[1 << bits :].any()
    assert np.array_equal(codes, same)
