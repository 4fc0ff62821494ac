"""Lets a caller keep single nodes out of Core ML.

Stands against: executorch 1.5.1
Repairs: ``CoreMLPartitioner`` (``backends/apple/coreml/partition/coreml_partitioner.py``) compares
    ``skip_ops_for_coreml_delegation`` with the names of targets. An ATen operator's name is
    ``conv2d.default`` and an edge operator's ``aten.conv2d.default``, so the list has no effect on
    the operators that ``ops_to_not_decompose`` keeps whole: a skipped convolution stays
    ``aten.conv2d``, which the runtime lacks, and ``to_executorch`` fails. The names are in lower
    case on one side only, so ``aten.add.Tensor`` never matches.
Remove when: the partitioner takes a predicate over nodes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from executorch.backends.apple.coreml.partition import coreml_partitioner as upstream
from torch.fx import Node

from pte_foundry.upstream.versions import require

_CLASS = "_OperatorsSupportedForCoreMLBackend"
_SUPPORT = require(upstream, _CLASS, patch=__name__)
require(_SUPPORT, "is_node_supported", "self submodules node", patch=__name__)


@contextmanager
def leaving_out(left_out: Callable[[Node], bool]) -> Iterator[None]:
    """Within this context no partitioner gives Core ML a node for which ``left_out`` is true."""

    class Support(_SUPPORT):
        def is_node_supported(self, submodules: object, node: Node) -> bool:
            return not left_out(node) and super().is_node_supported(submodules, node)

    with patch.object(upstream, _CLASS, Support):
        yield


def supported(node: Node) -> bool:
    """Return whether Core ML can take a node of an ATen or edge program."""
    return _SUPPORT().is_node_supported({}, node)
