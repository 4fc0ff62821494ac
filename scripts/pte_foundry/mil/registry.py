"""Registry of the functions that compute MIL operations, by name and first opset."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_type_hints

from pte_foundry.mil.parameters import Parameter

OPSETS = {
    "CoreML5": "iOS15",
    "CoreML6": "iOS16",
    "CoreML7": "iOS17",
    "CoreML8": "iOS18",
    "CoreML9": "iOS26",
}
"""Opsets, oldest first: their names in a program to coremltools' names of the targets."""

_ORDER = {version: rank for rank, version in enumerate(OPSETS.values())}


@dataclass(frozen=True)
class Kernel:
    """A function that computes one operation from the opset ``since`` on.

    Attributes:
        casts: the declared dtype of the result does not follow from the arguments' dtypes; the loop
            casts the result to it.
        sized: the size of the result follows from numbers among the arguments, so the loop limits
            it by the declared one before it is made.
        direct: a function of torch that does the same, given all arguments in order.
    """

    op: str
    since: str
    run: Callable
    parameters: dict[str, Parameter]
    casts: bool = False
    sized: bool = False
    direct: Callable | None = None


_kernels: dict[str, dict[str, Kernel]] = {}


def op(
    *names: str,
    since: str = "iOS15",
    casts: bool = False,
    sized: bool = False,
    direct: Callable | None = None,
) -> Callable:
    """Register a function as the computation of the operations ``names``, from ``since`` on.

    The function takes MIL's parameters by keyword, with MIL's names and defaults. Each annotation
    selects how the argument arrives (see :mod:`pte_foundry.mil.parameters`). It returns a tensor,
    or a tuple for several results, in fp32 where its arguments were upcast. For ``casts``,
    ``sized`` and ``direct`` see :class:`Kernel`.

    Raises:
        ValueError: the opset is unknown, or the operation is registered for it already.
        TypeError: a parameter's annotation is unknown.
    """

    def register(function: Callable) -> Callable:
        hints = get_type_hints(function, include_extras=True)
        parameters = {
            name: Parameter.of(hints[name], required=p.default is inspect.Parameter.empty)
            for name, p in inspect.signature(function).parameters.items()
        }
        for name in names:
            versions = _kernels.setdefault(name, {})
            if since in versions:
                raise ValueError(f"{name} is registered twice for {since}")
            versions[since] = Kernel(name, since, function, parameters, casts, sized, direct)
        return function

    if since not in _ORDER:
        raise ValueError(f"unknown opset {since}; known: {', '.join(_ORDER)}")
    return register


def known() -> list[str]:
    """Return the names of all operations."""
    return list(_kernels)


def find(name: str, opset: str) -> Kernel | None:
    """Return the newest version of an operation that is not newer than ``opset``, if any."""
    known = [v for v in _kernels.get(name, {}) if _ORDER[v] <= _ORDER[opset]]
    return _kernels[name][max(known, key=_ORDER.__getitem__)] if known else None
