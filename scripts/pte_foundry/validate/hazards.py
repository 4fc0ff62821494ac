"""Where a program's numbers break: infinities, nans, and values at the edge of fp16.

A hazard is reported where it starts: at an operation whose result is worse than everything it was
given. What an earlier overflow makes of later values is not repeated, and a mask is no hazard.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from pte_foundry.mil import Program
    from pte_foundry.mil.run import Operation

FP16_MAX = 65504.0
"""Largest finite IEEE 754 binary16 value."""

NEAR_OVERFLOW = 0.5 * FP16_MAX
"""One doubling from overflow: where another order of summation may already give an infinity."""

_FINE, _NEAR, _INFINITE, _NAN = range(4)
# These reach infinity at a pole, at any width of float; elsewhere fp16 just ran out of range.
_POLES = frozenset({"atanh", "inverse", "log", "pow", "real_div", "rsqrt", "tan"})
# What attention masks are made with. Hugely negative values that these take from a constant or
# from the caller are meant. (Adding a modest constant overflows only what was near it already,
# and that is reported where it arose.)
_MASKING = frozenset({"add", "fill", "fill_like", "pad", "select", "sub"})


class _Event(NamedTuple):
    """How bad the lowest and the highest value are. A nan is at both ends."""

    low: int
    high: int
    half: bool


_NOTHING = _Event(_FINE, _FINE, False)


class Hazards:
    """Collects the hazards of all runs of one program: ``program.run(…, tap=hazards.tap)``."""

    def __init__(self) -> None:
        self._runs: Counter[str] = Counter()
        self._events: dict[str, dict[int, _Event]] = {}

    def tap(self, name: str, value: torch.Tensor) -> None:
        """Takes notice of one value; one pass over floats (``aminmax``), nothing for the rest."""
        run = self._runs[name]
        self._runs[name] += 1
        if not value.is_floating_point() or not value.numel():
            return
        low, high = (float(bound) for bound in value.aminmax())
        half = value.dtype == torch.float16
        event = _Event(_level(low, half), _level(high, half), half)
        if event.low or event.high:
            self._events.setdefault(name, {})[run] = event

    def findings(
        self, program: Program, torch_sources: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """The hazards, each at the operation where it starts.

        Args:
            program: the program whose values were tapped.
            torch_sources: where a value comes from, by value name, as :func:`torch_sources` tells.

        Returns:
            ``{"op", "name", "torch_source", "kind", "count"}``, worst first, then by name;
            ``count`` is the number of runs. Kinds: "nan"; "inf", at a pole or in fp32;
            "fp16_overflow", any other infinity in fp16; "fp16_near_overflow", a finite fp16 value
            beyond half of the largest one. ``torch_source`` is ``None`` if unknown.
        """
        sources = torch_sources or {}
        found = []
        for name, events in self._events.items():
            operation = program.operation(name)
            masks = self._masks(operation)
            counts: Counter[tuple[int, str]] = Counter()
            for run, event in events.items():
                level = event.high if masks else max(event.low, event.high)
                if level > self._given(operation, name, run):
                    counts[-level, _kind(level, event.half, operation.op)] += 1
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

    def _given(self, operation: Operation, name: str, run: int) -> int:
        """The worst level among what the operation was given in that run."""
        levels = [_FINE]
        for used in (value for values in operation.inputs.values() for value in values):
            events = self._events.get(used, {})
            if self._runs[used] == self._runs[name]:
                levels += events.get(run, _NOTHING)[:2]
            else:  # a loop's body uses a value from outside: their runs do not correspond
                levels += [level for event in events.values() for level in event[:2]]
        return max(levels)

    def _masks(self, operation: Operation) -> bool:
        # Constants and the program's inputs are not tapped; literal constants have no name either.
        return operation.op in _MASKING and any(
            not values or any(value not in self._runs for value in values)
            for values in operation.inputs.values()
        )


def _level(bound: float, half: bool) -> int:
    if math.isnan(bound):  # aminmax hands a nan on, as both bounds
        return _NAN
    if math.isinf(bound):
        return _INFINITE
    return _NEAR if half and abs(bound) > NEAR_OVERFLOW else _FINE


def _kind(level: int, half: bool, op: str) -> str:
    if level == _INFINITE:
        return "fp16_overflow" if half and op not in _POLES else "inf"
    return "nan" if level == _NAN else "fp16_near_overflow"


def torch_sources(debug_info: Mapping[str, Any], handles: Mapping[str, str]) -> dict[str, str]:
    """Where the values of a Core ML program come from in the PyTorch program.

    Args:
        debug_info: ``debug_info.json`` of a Core ML delegate blob. Its ``debugSymbolToHandles``
            maps "value:operator" to ExecuTorch's debug handles (executorch 1.4,
            ``backends/apple/coreml/compiler/coreml_preprocess.py``).
        handles: debug handle, as a string, to "operator @ module path".

    Returns:
        Value name to its sources, joined by " + " where Core ML fused several. Values whose
        handles are unknown are left out.
    """
    return {value: " + ".join(known) for value, known in operators_of(debug_info, handles).items()}


def operators_of(
    debug_info: Mapping[str, Any], handles: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """As :func:`torch_sources`, each source by itself."""
    sources = {}
    for symbol, numbers in (debug_info.get("debugSymbolToHandles") or {}).items():
        value = symbol.rpartition(":")[0] or symbol
        known = dict.fromkeys(handles[str(n)] for n in numbers if str(n) in handles)
        if known:
            sources[value] = tuple(known)
    return sources
