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
    arithmetic,
    attention,
    bits,
    exponentials,
    filling,
    interpolation,
    movement,
    normalization,
    pooling,
    promotion,
    ranks,
    resizing,
    selection,
)
from pte_foundry.upstream.torch_operators import OpOverload

FAMILIES = (
    promotion,  # first: what it gives is rewritten again
    ranks,
    algebra,
    arithmetic,
    attention,
    bits,
    exponentials,
    filling,
    interpolation,
    movement,
    normalization,
    pooling,
    resizing,
    selection,
)


def _table() -> dict[OpOverload, Callable[..., Any]]:
    found: dict[OpOverload, Callable[..., Any]] = {}
    for family in FAMILIES:
        for operator, rewrite in family.REWRITES.items():
            found[operator] = _either(found[operator], rewrite) if operator in found else rewrite
    return found


def _either(first: Callable[..., Any], second: Callable[..., Any]) -> Callable[..., Any]:
    """The first rewrite, or the second where the first does not apply."""

    def rewrite(*args: Any, **kwargs: Any) -> Any:
        result = first(*args, **kwargs)
        return second(*args, **kwargs) if result is NotImplemented else result

    return rewrite


TABLE = _table()


def without(skip: list[str]) -> dict[OpOverload, Callable[..., Any]]:
    """Returns the rewrites of the operators that Core ML is to have.

    Args:
        skip: operators that stay outside of Core ML (``skip_ops_for_coreml_delegation``). They are
            not rewritten, for then Core ML would get what they are rewritten as.
    """
    skipped = {name.lower() for name in skip}
    return {op: rewrite for op, rewrite in TABLE.items() if str(op).lower() not in skipped}
