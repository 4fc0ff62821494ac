"""Protects integers from a pass that narrows them: ``pte_foundry.upstream.coremltools_int16_pass``.

It is entered by ``lowering.coreml.lower``, so whole lowerings are compared here.
"""

import pytest
import torch

from tests.unit.lowering import both_ways
from tests.unit.lowering.both_ways import decibels, target

IDS = torch.tensor([[40000, 60000, 7, -40000, 32768], [50000, 3, 32767, 65536, 1]])
WHERE = torch.tensor([[4, 0, 3], [1, 2, 2]])
TABLE = torch.randn(40000, 4, generator=torch.Generator().manual_seed(0))

LAST_BUT_ONE = torch.zeros(1, 70000).index_fill(1, torch.tensor([66000]), 1)

CASES = {
    "gather": (lambda ids, at: ids.gather(1, at), (IDS, WHERE)),
    "index_select": (lambda ids, at: ids.index_select(1, at), (IDS, WHERE[0])),
    "indexing": (lambda ids, at: ids[torch.arange(2)[:, None], at], (IDS, WHERE)),
    "topk": (lambda ids: ids.topk(2).values, (IDS,)),
    "squeeze": (lambda ids: ids[:, :1].squeeze(1) + 0, (IDS,)),
    "embedding": (lambda ids, at: TABLE[ids.gather(1, at) % 40000], (IDS, WHERE)),
    "topk of a long axis": (
        lambda x: x.topk(2).indices,
        (torch.zeros(1, 70000).index_fill(1, torch.tensor([69999]), 2) + LAST_BUT_ONE,),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_integers_keep_their_value(name):
    assert decibels(both_ways.ours, *CASES[name], target("float16")) > 60


@pytest.mark.parametrize("name", ["gather", "topk", "topk of a long axis"])
def test_upstream_still_has_the_fault(name):
    """If this fails, upstream has fixed it: remove ``kept_integers``."""
    assert decibels(both_ways.upstream, *CASES[name], target("float16")) < 10


def test_indices_into_a_short_axis_are_still_narrowed():
    """As upstream does, so that artifacts without the fault keep their bytes."""
    narrow, wide = (
        both_ways.ours(both_ways.exported(lambda at, t=t: t[at], (WHERE,)), target("float16"))
        for t in (TABLE[:100], TABLE)
    )
    assert b"to_int16" in narrow or b"to_uint16" in narrow
    assert b"to_int16" not in wide
    assert b"to_uint16" not in wide
