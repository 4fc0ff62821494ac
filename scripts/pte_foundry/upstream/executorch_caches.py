"""Empties a cache of executorch that keeps lowered programs alive.

Stands against: executorch 1.5.1
Uses: the ``lru_cache`` of ``is_same_node`` (``exir/backend/utils.py``), whose keys are nodes of
    graphs and so lead to a program, its weights and the delegate's bytes.
Remove when: ``test_lowered_programs_are_let_go`` passes without it.
"""

from executorch.exir.backend.utils import is_same_node

from pte_foundry.upstream.versions import require

require(is_same_node, "cache_clear", patch=__name__)


def clear() -> None:
    """Let go of all programs that the cache refers to."""
    is_same_node.cache_clear()
