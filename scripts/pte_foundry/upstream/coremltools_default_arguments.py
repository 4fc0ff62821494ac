"""Fills in the arguments that a call leaves out, where a converter counts them.

Stands against: coremltools 9.0
Repairs: converters that were written for TorchScript, whose calls name every argument. torch.export
    leaves out arguments that have their default value, and such calls are refused: "got 2 input(s),
    expected [4]" (``_get_inputs`` in ``mil/frontend/torch/ops.py``).
Remove when: ``InternalTorchIRNode.from_exir_node`` completes the arguments by the schema.

Only calls that upstream refuses are completed, so no other program changes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from coremltools.converters.mil.frontend.torch import ops as frontend
from coremltools.converters.mil.frontend.torch.internal_graph import InternalTorchIRNode
from torch.fx import Node

from pte_foundry.upstream.versions import require

require(frontend, "_get_inputs", "context node expected min_expected", patch=__name__)
require(InternalTorchIRNode, "from_exir_node", "node", patch=__name__)

_OMITTED = "_omitted_arguments"


@contextmanager
def completed_arguments() -> Iterator[None]:
    """Within this context a converter gets as many arguments as it expects."""
    read, get = InternalTorchIRNode.from_exir_node.__func__, frontend._get_inputs

    def from_exir_node(cls: type, node: Node) -> InternalTorchIRNode:
        made = read(cls, node)
        setattr(made, _OMITTED, _omitted(node))
        return made

    def get_inputs(context: Any, node: Any, expected: Any = None, min_expected: Any = None) -> Any:
        counts = expected.get(context.frontend) if isinstance(expected, dict) else expected
        counts = [counts] if isinstance(counts, int) else list(counts or ())
        missing = min((count - len(node.inputs) for count in counts), default=0, key=abs)
        omitted = getattr(node, _OMITTED, [])
        if 0 < missing <= len(omitted) and len(node.inputs) not in counts:
            node.inputs = [*node.inputs, *omitted[:missing]]
        return get(context, node, expected, min_expected)

    with (
        patch.object(InternalTorchIRNode, "from_exir_node", classmethod(from_exir_node)),
        patch.object(frontend, "_get_inputs", get_inputs),
    ):
        yield


def _omitted(node: Node) -> list[Any]:
    """Returns the default values of the positional arguments that a call leaves out."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return []
    positional = [argument for argument in schema.arguments if not argument.kwarg_only]
    return [a.default_value for a in positional[len(node.args) :] if a.name not in node.kwargs]
