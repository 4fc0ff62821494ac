"""Protects the memory of a lowering: the cache holds nodes, and by them programs.

``test_lowered_programs_are_let_go`` (``tests/unit/lowering``) shows that it still matters.
"""

from executorch.exir.backend.utils import is_same_node
from pte_foundry.upstream import executorch_caches
from torch.fx import Graph


def test_the_cache_is_emptied():
    graph = Graph()
    is_same_node(graph.placeholder("a"), graph.placeholder("b"))
    assert is_same_node.cache_info().currsize
    executorch_caches.clear()
    assert is_same_node.cache_info().currsize == 0
