"""Constant methods: methods of a ``.pte`` that take nothing, compute nothing and return values."""

from __future__ import annotations

from typing import Any

from pte_foundry.formats import pte_schema

_VALUES = {
    pte_schema.Int: "int_val",
    pte_schema.Bool: "bool_val",
    pte_schema.Double: "double_val",
    pte_schema.String: "string_val",
}


def constants(program: pte_schema.Program) -> dict[str, Any]:
    """Returns the values of the constant methods by name; a list if a method returns several."""
    found = {}
    for plan in program.execution_plan:
        at_work = plan.inputs or plan.delegates or any(c.instructions for c in plan.chains)
        outputs = [plan.values[i].val for i in plan.outputs if 0 <= i < len(plan.values)]
        if not at_work and outputs and all(type(value) in _VALUES for value in outputs):
            values = [getattr(value, _VALUES[type(value)]) for value in outputs]
            found[plan.name] = values if len(values) > 1 else values[0]
    return found
