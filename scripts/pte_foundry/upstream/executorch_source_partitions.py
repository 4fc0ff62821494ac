"""Tells the calls of one module apart when executorch's ``CoreMLQuantizer`` annotates a program.

Stands against: executorch 1.5.1, torch 2.13.0
Repairs: ``get_source_partitions`` (``torch/fx/passes/utils/source_matcher_utils.py``), as
    ``backends/apple/coreml/quantizer/_coreml_quantizer_utils.py`` calls it. Programs from
    non-strict export (the default) only name the module that an operator is from, so all calls of a
    pooling module become one partition. Then an output shares its range with the input of another
    call, and which one depends on memory addresses.
Remove when: ``test_upstream_takes_the_calls_of_one_pool_for_one_call`` fails.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from executorch.backends.apple.coreml.quantizer import _coreml_quantizer_utils as upstream
from torch.fx import Graph, Node
from torch.fx.passes.utils.source_matcher_utils import SourcePartition, get_source_partitions

from pte_foundry.upstream.versions import require

_FUNCTION = "_get_source_partitions"
require(upstream, _FUNCTION, "graph wanted_sources filter_fn", patch=__name__)


@contextmanager
def partitions_per_call() -> Iterator[None]:
    """Within this context every call of a module is a partition of its own; not thread-safe."""
    with patch.object(upstream, _FUNCTION, _partitions_per_call):
        yield


def _partitions_per_call(
    graph: Graph, wanted: list[Any], filter_fn: Callable[[Node], bool] | None = None
) -> dict[Any, list[SourcePartition]]:
    return {
        source: [
            replace(partition, nodes=[node], output_nodes=[node], input_nodes=node.all_input_nodes)
            for partition in partitions
            for node in partition.nodes
        ]
        if isinstance(source, type) and _calls_are_merged(partitions)
        else partitions
        for source, partitions in get_source_partitions(graph, wanted, filter_fn).items()
    }


def _calls_are_merged(partitions: list[SourcePartition]) -> bool:
    """All these sources (pools, flatten) are one operator a call, so several are several calls."""
    return all("source_fn_stack" not in node.meta for p in partitions for node in p.nodes)
