"""Empties a cache of torch that keeps programs alive.

Stands against: torch 2.13.0
Uses: ``FakeTensorMode.cache_clear`` (``_subclasses/fake_tensor.py``), the dispatch cache, whose
    entries lead to the programs that were traced, and to their weights.
Remove when: ``test_lowered_programs_are_let_go`` passes without it.
"""

from torch._subclasses import FakeTensorMode

from pte_foundry.upstream.versions import require

require(FakeTensorMode, "cache_clear", "", patch=__name__)


def clear() -> None:
    """Let go of all programs that the cache refers to."""
    FakeTensorMode.cache_clear()
