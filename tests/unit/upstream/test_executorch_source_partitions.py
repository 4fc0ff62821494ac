"""Protects the annotation of pools that are called several times, on non-strict programs.

``test_upstream_takes_the_calls_of_one_pool_for_one_call`` (``tests/unit/quantize``) shows that
upstream still goes wrong.
"""

import pytest
import torch
from executorch.backends.apple.coreml.quantizer import _coreml_quantizer_utils as upstream
from pte_foundry.bench.equality import annotations
from pte_foundry.quantize.annotate import Quantizer
from pte_foundry.upstream.executorch_source_partitions import partitions_per_call
from torch import nn
from torch.fx.passes.utils import source_matcher_utils

from tests.unit.upstream.source_digest import assert_source_digest


def test_upstream_is_what_was_read():
    check = "Does it tell the calls of one module apart? Then remove partitions_per_call."
    assert_source_digest(
        source_matcher_utils.get_source_partitions,
        "2efa189daa77e24f0503a5ea88c3960e434023f23d213dfaa142dd5f2f93d833",
        check,
    )


def test_the_function_comes_back():
    assert upstream._get_source_partitions is source_matcher_utils.get_source_partitions
    with partitions_per_call():
        assert upstream._get_source_partitions is not source_matcher_utils.get_source_partitions
    with pytest.raises(KeyError), partitions_per_call():
        raise KeyError
    assert upstream._get_source_partitions is source_matcher_utils.get_source_partitions


@pytest.mark.parametrize("strict", [False, True])
def test_calls_of_one_pool_do_not_share_ranges(strict):
    """Upstream mixes them up for non-strict exports, by chance one way or the other."""

    class Pools(nn.Module):
        def __init__(self, shared):
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(2, 2, 1) for _ in range(3))
            self.pools = nn.ModuleList(nn.MaxPool2d(2) for _ in range(3))
            if shared:
                self.pools = nn.ModuleList([self.pools[0]] * 3)

        def forward(self, x):
            for conv, pool in zip(self.convs, self.pools, strict=True):
                x = pool(conv(x))
            return x

    noted = []
    for shared in (True, False):
        program = torch.export.export(
            Pools(shared).eval(), (torch.randn(1, 2, 8, 8),), strict=strict
        )
        noted.append(annotations(Quantizer({}).annotate(program.module())))
    assert noted[0] == noted[1]
    shares = [note for _, name, _, note in noted[0] if name.startswith("max_pool2d")]
    assert [note[-1] for note in shares] == [
        ("shared", conv) for conv in ("conv2d", "conv2d_1", "conv2d_2")
    ]
