"""Protects the memory of a lowering: the cache leads to programs that were traced.

``test_lowered_programs_are_let_go`` (``tests/unit/lowering``) shows that it still matters.
"""

import torch
from pte_foundry.upstream import torch_caches
from torch._subclasses import FakeTensorMode


def test_the_cache_is_emptied():
    with FakeTensorMode():
        torch.ones(3) + 1
    assert FakeTensorMode.cache
    torch_caches.clear()
    assert not FakeTensorMode.cache
