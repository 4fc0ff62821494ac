"""Operators that Core ML's converter gets wrong, written in operators that it gets right.

A rewrite is a decomposition, as torch's own are: a function with the operator's signature that
computes the same with other operators, or returns ``NotImplemented`` where upstream is right. So
only the calls that are wrong change, and every other program keeps upstream's bytes.

To repair an operator, write its function in the file of its family and add it to that file's
``REWRITES``. The test of the same name shows upstream's fault, the repair, and when it can go. A
fault that no other operators avoid is repaired in the converter: ``pte_foundry.upstream``.
"""

from collections.abc import Callable
from typing import Any

from pte_foundry.lowering.rewrites import (
    algebra,
    attention,
    filling,
    interpolation,
    movement,
    normalization,
    pooling,
)
from pte_foundry.upstream.torch_operators import OpOverload

TABLE: dict[OpOverload, Callable[..., Any]] = {
    operator: rewrite
    for family in (algebra, attention, filling, interpolation, movement, normalization, pooling)
    for operator, rewrite in family.REWRITES.items()
}


def without(skip: list[str]) -> dict[OpOverload, Callable[..., Any]]:
    """Returns the rewrites of the operators that Core ML is to have.

    Args:
        skip: operators that stay outside of Core ML (``skip_ops_for_coreml_delegation``). They are
            not rewritten, for then Core ML would get what they are rewritten as.
    """
    skipped = {name.lower() for name in skip}
    return {op: rewrite for op, rewrite in TABLE.items() if str(op).lower() not in skipped}
