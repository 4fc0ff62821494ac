"""Hazards: operations in which infinities, nans or values near the limit of fp16 arise.

A hazard is reported where it starts: at an operation whose result is worse than all its inputs.
Values that an earlier overflow has spoiled are not reported again, nor are attention masks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from pte_foundry.validate.schema import Hazard, HazardKind

if TYPE_CHECKING:
    from pte_foundry.mil import Program
    from pte_foundry.mil.run import Operation

FP16_MAX = 65504.0
"""Largest finite IEEE 754 binary16 value."""

NEAR_OVERFLOW = 0.5 * FP16_MAX
"""One doubling from overflow: another order of summation may already give an infinity."""

_FINE, _NEAR, _INFINITE, _NAN = range(4)
# These have poles and reach infinity in floats of any width; in other operations fp16 overflowed.
_POLES = frozenset({"atanh", "inverse", "log", "pow", "real_div", "rsqrt", "tan"})
# Operations that make attention masks. Hugely negative results that come from a constant or an
# input of the program are intended. (Adding a modest constant overflows only what was near to it
# already, and that is reported where it arose.)
_MASKING = frozenset({"add", "fill", "fill_like", "pad", "select", "sub"})


class _Levels(NamedTuple):
    """How bad the lowest and the highest value of a tensor are. A nan is both."""

    low: int
    high: int
    fp16: bool


_HARMLESS = _Levels(_FINE, _FINE, False)


class Hazards:
    """Collects the hazards of all runs of one program: ``program.run(…, tap=hazards.tap)``."""

    def __init__(self) -> None:
        self._runs: Counter[str] = Counter()
        self._levels: dict[str, dict[int, _Levels]] = {}

    def tap(self, name: str, value: torch.Tensor) -> None:
        """Records one value, of any shape and dtype. Costs one ``aminmax`` for a float tensor."""
        run = self._runs[name]
        self._runs[name] += 1
        if not value.is_floating_point() or not value.numel():
            return
        low, high = (float(bound) for bound in value.aminmax())
        fp16 = value.dtype == torch.float16
        levels = _Levels(_level(low, fp16), _level(high, fp16), fp16)
        if levels.low or levels.high:
            self._levels.setdefault(name, {})[run] = levels

    def findings(
        self, program: Program, torch_sources: Mapping[str, str] | None = None
    ) -> list[Hazard]:
        """Returns the hazards, worst first, then by value name.

        Args:
            program: the program whose values were recorded.
            torch_sources: value name to its torch operators (:func:`torch_sources`).
        """
        sources = torch_sources or {}
        found = []
        for name, levels_by_run in self._levels.items():
            operation = program.operation(name)
            masks = self._may_mask(operation)
            counts: Counter[tuple[int, HazardKind]] = Counter()
            for run, levels in levels_by_run.items():
                level = levels.high if masks else max(levels.low, levels.high)
                if level > self._worst_input(operation, name, run):
                    counts[-level, _kind(level, levels.fp16, operation.op)] += 1
            found += [(*key, name, operation.op, count) for key, count in counts.items()]
        return [
            {
                "op": op,
                "name": name,
                "torch_source": sources.get(name),
                "kind": kind,
                "count": count,
            }
            for _, kind, name, op, count in sorted(found)
        ]

    def _worst_input(self, operation: Operation, name: str, run: int) -> int:
        """The worst level among the operation's inputs in that run."""
        found = [_FINE]
        for used in (value for values in operation.inputs.values() for value in values):
            levels_by_run = self._levels.get(used, {})
            if self._runs[used] == self._runs[name]:
                found += levels_by_run.get(run, _HARMLESS)[:2]
            else:  # a loop's body uses a value from outside: their runs do not correspond
                found += [level for levels in levels_by_run.values() for level in levels[:2]]
        return max(found)

    def _may_mask(self, operation: Operation) -> bool:
        # Constants and the program's inputs are not tapped; literal constants have no name either.
        return operation.op in _MASKING and any(
            not values or any(value not in self._runs for value in values)
            for values in operation.inputs.values()
        )


def _level(bound: float, fp16: bool) -> int:
    if math.isnan(bound):  # aminmax returns nan for both bounds if any element is nan
        return _NAN
    if math.isinf(bound):
        return _INFINITE
    return _NEAR if fp16 and abs(bound) > NEAR_OVERFLOW else _FINE


def _kind(level: int, fp16: bool, op: str) -> HazardKind:
    if level == _INFINITE:
        return "fp16_overflow" if fp16 and op not in _POLES else "inf"
    return "nan" if level == _NAN else "fp16_near_overflow"


def torch_sources(
    debug_info: Mapping[str, Any], debug_handles: Mapping[str, str]
) -> dict[str, str]:
    """Returns the torch operators of a Core ML program's values, as text.

    Args:
        debug_info: ``debug_info.json`` of a Core ML delegate blob. Its ``debugSymbolToHandles``
            maps "value:operator" to ExecuTorch's debug handles (executorch 1.5,
            ``backends/apple/coreml/compiler/coreml_preprocess.py``).
        debug_handles: debug handle, as a string, to "operator @ module path".

    Returns:
        Value name to its operators, joined by " + " where Core ML fused several. Values whose
        handles are unknown are left out.
    """
    operators = operators_of(debug_info, debug_handles)
    return {value: " + ".join(names) for value, names in operators.items()}


def operators_of(
    debug_info: Mapping[str, Any], debug_handles: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Returns the torch operators of each value like :func:`torch_sources`, but as a tuple."""
    operators = {}
    for symbol, handles in (debug_info.get("debugSymbolToHandles") or {}).items():
        value = symbol.rpartition(":")[0] or symbol
        known = [debug_handles[str(h)] for h in handles if str(h) in debug_handles]
        if known:
            operators[value] = tuple(dict.fromkeys(known))
    return operators
