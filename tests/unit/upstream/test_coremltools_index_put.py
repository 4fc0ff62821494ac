"""Protects writes to several places of an axis, as prompts are written into caches.

``lowering/test_caches.py`` executes all ways to write.
"""

import pytest
import torch
from pte_foundry.bench.operators.program import lowered_by_upstream
from pte_foundry.upstream.coremltools_index_put import several_places
from torch.export import Dim

from tests.unit.lowering.both_ways import exported

HELD, NEW = torch.zeros(1, 2, 8, 4), torch.ones(1, 2, 3, 4)
PLACES = torch.arange(3, dtype=torch.int32)
ANY = {0: Dim("n", min=2, max=8)}


def several(held, new, places):
    held = held.clone()
    held[:, :, places] = new
    return held


def spread(held, new, places):
    return held.scatter(2, places.long()[None, None, :, None].expand_as(new), new)


@pytest.mark.parametrize(
    ("function", "shapes"), [(several, None), (spread, ((None, {2: ANY[0]}, ANY),))]
)
def test_upstream_still_refuses(function, shapes):
    """If this fails, upstream has fixed it: remove its part of several_places."""
    program = exported(function, (HELD, NEW, PLACES), shapes)
    with pytest.raises((ValueError, AssertionError)):
        lowered_by_upstream(program, "float32")
    with several_places():
        assert lowered_by_upstream(program, "float32")
