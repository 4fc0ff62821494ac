"""Replaces the operators of a graph by those of the edge dialect, and back.

Stands against: executorch 1.5.1
Uses: ``EdgeOpOverload`` and its ``_op`` (``exir/dialects/edge/_ops.py``). torch's file format
    cannot hold edge operators, so a program is written with the operators that they wrap.
    ``exir/operator/convert.py`` finds the ``out`` variant that ``to_executorch`` will call.
Remove when: executorch saves and loads edge programs, or ``EdgeOpOverload`` has public names.
"""

from executorch.exir.dialects.edge._ops import EdgeOpOverload
from executorch.exir.operator.convert import to_out_variant
from executorch.exir.passes.replace_aten_with_edge_pass import aten_to_edge, should_lower_to_edge
from torch.fx import Node

from pte_foundry.upstream.torch_operators import OpOverload


def wrap(node: Node) -> None:
    """Replace a node's ATen operator by its edge operator, as ``to_edge`` does."""
    if node.op == "call_function" and should_lower_to_edge(node.target):
        node.target = aten_to_edge(node.target)


def unwrap(node: Node) -> None:
    """Replace a node's edge operator by the ATen operator in it."""
    if isinstance(node.target, EdgeOpOverload):
        node.target = node.target._op


def aten(node: Node) -> object:
    """Return a node's target, that of the ATen operator if it is an edge operator."""
    return node.target._op if isinstance(node.target, EdgeOpOverload) else node.target


def out_variant(operator: OpOverload) -> str:
    """Return the operator that a program calls outside of delegates, such as ``aten::add.out``.

    An empty string if upstream finds none; ``to_executorch`` fails then.
    """
    try:
        found, _ = to_out_variant(operator)
    except (AttributeError, RuntimeError, AssertionError):  # a schema that it cannot parse: None
        return ""
    return ".".join(filter(None, (found._schema.name, found._schema.overload_name)))
