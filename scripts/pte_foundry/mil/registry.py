"""Which function computes which operation, at which opset."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_type_hints

from pte_foundry.mil.parameters import Parameter

# Core ML's opsets by their names in a program, oldest first.
OPSETS = {"CoreML5": "iOS15", "CoreML6": "iOS16", "CoreML7": "iOS17"} | {
    "CoreML8": "iOS18",
    "CoreML9": "iOS26",
}
_ORDER = {version: rank for rank, version in enumerate(OPSETS.values())}


@dataclass(frozen=True)
class Kernel:
    """A function that computes one operation from the opset ``since`` on."""

    op: str
    since: str
    run: Callable
    parameters: dict[str, Parameter]


_kernels: dict[str, dict[str, Kernel]] = {}


def op(*names: str, since: str = "iOS15") -> Callable:
    """Registers a function as the computation of ``names``, from the opset ``since`` on.

    The function takes MIL's parameters by keyword, under MIL's names and with MIL's defaults; how
    each arrives is said by its annotation (see :mod:`pte_foundry.mil.parameters`).
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
            versions[since] = Kernel(name, since, function, parameters)
        return function

    if since not in _ORDER:
        raise ValueError(f"unknown opset {since}; known: {', '.join(_ORDER)}")
    return register


def find(name: str, opset: str) -> Kernel | None:
    """The newest version of an operation that is not newer than ``opset``, if there is one."""
    known = [v for v in _kernels.get(name, {}) if _ORDER[v] <= _ORDER[opset]]
    return _kernels[name][max(known, key=_ORDER.__getitem__)] if known else None


def registered() -> list[Kernel]:
    """Every registered computation, by operation and opset."""
    kernels = [kernel for versions in _kernels.values() for kernel in versions.values()]
    return sorted(kernels, key=lambda k: (k.op, _ORDER[k.since]))
