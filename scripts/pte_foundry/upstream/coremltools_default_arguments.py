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
        missing = _missing(len(node.inputs), *(_of(context, n) for n in (expected, min_expected)))
        omitted = getattr(node, _OMITTED, [])
        if 0 < missing <= len(omitted):
            node.inputs = [*node.inputs, *omitted[:missing]]
        return get(context, node, expected, min_expected)

    with (
        patch.object(InternalTorchIRNode, "from_exir_node", classmethod(from_exir_node)),
        patch.object(frontend, "_get_inputs", get_inputs),
    ):
        yield


def _of(context: Any, numbers: Any) -> list[int]:
    """Returns the numbers of arguments that a converter allows; none if it does not count them."""
    if isinstance(numbers, dict):
        numbers = numbers.get(context.frontend)
    return [numbers] if isinstance(numbers, int) else list(numbers or ())


def _missing(given: int, exact: list[int], least: list[int]) -> int:
    """Returns how many arguments are to be added to those that a call gives."""
    if exact and given not in exact:
        return min((number - given for number in exact if number > given), default=0)
    return max((number - given for number in least), default=0)


def _omitted(node: Node) -> list[Any]:
    """Returns the default values of the arguments that a call leaves out, in order."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return []
    later = schema.arguments[len(node.args) :]
    return [argument.default_value for argument in later if argument.name not in node.kwargs]
