"""torch's operators: their type, their schema, and how to find one by name.

Stands against: torch 2.13.0
Uses: ``torch._ops.OpOverload`` and its ``_schema`` (``torch/_ops.py``), for which torch has no
    public names, though ``torch.ops`` returns such objects, and the list of
    all operators, ``torch._C._dispatch_get_all_op_names``.
Remove when: the type and the schema have public names.
"""

from typing import Any

import torch
from torch._ops import OpOverload

__all__ = ["MODES", "OpOverload", "exists", "find", "mutates", "operator", "schema"]

MODES = frozenset({"approximate", "mode", "padding_mode", "reduce", "rounding_mode"})
"""Arguments that are texts and only select how an operator computes."""


def operator(name: str) -> OpOverload:
    """Return an operator by the name that it prints: ``aten.relu.default``.

    Raises:
        AttributeError: there is no such operator.
    """
    namespace, packet, overload = name.split(".")
    return getattr(getattr(getattr(torch.ops, namespace), packet), overload)


def find(namespace: str, name: str, overload: str) -> OpOverload | None:
    """Return the operator ``namespace.name.overload``, or None if there is none."""
    packet: Any = getattr(getattr(torch.ops, namespace), name, None)
    found = getattr(packet, overload, None)
    return found if isinstance(found, OpOverload) else None


def exists(name: str) -> bool:
    """Whether there is an operator ``aten.add.tensor``, in upper or lower case."""
    packet, _, overload = name.lower().replace(".", "::", 1).rpartition(".")
    wanted = packet if overload == "default" else f"{packet}.{overload}"
    return wanted in map(str.lower, torch._C._dispatch_get_all_op_names())


def schema(operator: OpOverload) -> torch.FunctionSchema:
    """Return an operator's signature: its arguments and returns."""
    return operator._schema


def mutates(target: Any) -> bool:
    """Whether the target of a graph's node is an operator that writes into an argument."""
    return isinstance(target, OpOverload) and schema(target).is_mutable
