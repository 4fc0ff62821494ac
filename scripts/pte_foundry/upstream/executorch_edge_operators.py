"""Replaces the operators of a graph by those of the edge dialect, and back.

Stands against: executorch 1.5.1
Uses: ``EdgeOpOverload`` and its ``_op`` (``exir/dialects/edge/_ops.py``). torch's file format
    cannot hold edge operators, so a program is written with the operators that they wrap.
Remove when: executorch saves and loads edge programs, or ``EdgeOpOverload`` has public names.
"""

from executorch.exir.dialects.edge._ops import EdgeOpOverload
from executorch.exir.passes.replace_aten_with_edge_pass import aten_to_edge, should_lower_to_edge
from torch.fx import Node


def wrap(node: Node) -> None:
    """Replace a node's ATen operator by its edge operator, as ``to_edge`` does."""
    if node.op == "call_function" and should_lower_to_edge(node.target):
        node.target = aten_to_edge(node.target)


def unwrap(node: Node) -> None:
    """Replace a node's edge operator by the ATen operator in it."""
    if isinstance(node.target, EdgeOpOverload):
        node.target = node.target._op
