"""Hazards of integers: rounded in fp16, or narrowed to 16 bits where they do not fit.

fp16 has every integer up to 2048; of larger ones it has every second, fourth and so on. Core ML has
few integer operations, so coremltools computes many in fp16.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Set
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from pte_foundry.validate.hazards_schema import HazardKind

if TYPE_CHECKING:
    from pte_foundry.mil import Program
    from pte_foundry.mil.instructions import Operation
    from pte_foundry.mil.program import Function

EXACT = 2048
"""The largest number up to which fp16 has every integer."""

MOVING = frozenset(
    {"concat", "expand_dims", "expand", "gather", "gather_along_axis", "gather_nd", "identity"}
    | {"reshape", "slice_by_index", "slice_by_size", "slice_update", "split", "squeeze", "stack"}
    | {"tile", "transpose"}
)
"""Operations whose results are elements of their inputs."""

_INTEGER = MOVING | {
    *("abs", "add", "ceil", "clip", "cumsum", "floor", "floor_div", "maximum", "minimum", "mod"),
    *("mul", "real_div", "reduce_max", "reduce_min", "reduce_sum", "round", "select", "sub"),
}
"""Operations that integers are computed with."""

_NARROW = (torch.int8, torch.uint8, torch.int16, torch.uint16)


class Flow:
    """Which operations the results of others reach; found at the first question.

    Args:
        names: of values that the program computes.
        program: the program.
    """

    def __init__(self, names: Set[str], program: Program | Function) -> None:
        self._names = names
        self._program = program

    @cached_property
    def operations(self) -> dict[str, Operation]:
        """The operation of each value, by name."""
        return {name: self._program.operation(name) for name in sorted(self._names)}

    @cached_property
    def _readers(self) -> dict[str, dict[str, Operation]]:
        """By value: its readers, by their results."""
        readers: dict[str, dict[str, Operation]] = {}
        for result, operation in self.operations.items():
            for name in (name for names in operation.inputs.values() for name in names):
                readers.setdefault(name, {})[result] = operation
        return readers

    def reached(self, name: str, path: Set[str]) -> dict[str, Operation]:
        """Returns the operations that read a value, itself or through others, by their results.

        Args:
            name: the value.
            path: types of the operations whose results are followed.
        """
        found: dict[str, Operation] = {}
        names = [name]
        for value in names:  # the loop appends to it
            for result, operation in self._readers.get(value, {}).items():
                if result not in found:
                    found[result] = operation
                    if operation.op in path:
                        names.append(result)
        return found


class Integers:
    """Records integers, and fp16 values beyond :data:`EXACT`; counts executions."""

    def __init__(self) -> None:
        self._dtypes: dict[str, torch.dtype] = {}
        self._inexact: Counter[str] = Counter()
        self._large: Counter[str] = Counter()
        self._outside: dict[torch.dtype, Counter[str]] = {dtype: Counter() for dtype in _NARROW}

    def record(self, name: str, value: torch.Tensor, low: float, high: float) -> None:
        """Records one value; ``low`` and ``high`` are its extremes."""
        self._dtypes[name] = value.dtype
        largest = max(-low, high)
        if value.is_floating_point():
            if value.dtype == torch.float16 and EXACT < largest < math.inf:
                self._large[name] += 1
            return
        for dtype in _NARROW:
            limits = torch.iinfo(dtype)
            if low < limits.min or high > limits.max:
                self._outside[dtype][name] += 1
        if largest > EXACT:
            exact = value.to(torch.float64)
            self._inexact[name] += bool((exact.to(torch.float16).to(torch.float64) != exact).any())

    def findings(self, flow: Flow) -> list[tuple[str, HazardKind, int]]:
        """Returns the value, the kind and the number of executions of each hazard."""
        found: list[tuple[str, HazardKind, int]] = []
        computed: set[str] = set()
        if all(dtype.is_floating_point for dtype in self._dtypes.values()):
            return found
        for result, operation in flow.operations.items():
            source = next(iter(operation.inputs.get("x", ())), "")
            if operation.op != "cast" or not self._is_integer(source):
                continue
            dtype = self._dtypes.get(result)
            if count := self._outside.get(dtype, Counter())[source]:
                found.append((result, "integer_wrap", count))
            if dtype == torch.float16:
                through = self._until_integer(result, flow)
                computed |= through
                if count := self._inexact[source]:
                    found.append((result, "integer_rounded" if through else "fp16_integer", count))
        large = sorted(computed & self._large.keys() - {name for name, _, _ in found})
        return found + [(name, "fp16_integer", self._large[name]) for name in large]

    def _until_integer(self, name: str, flow: Flow) -> set[str]:
        """The fp16 values from an integer on until it is an integer again; empty if it is not."""
        reached = flow.reached(name, _INTEGER)
        back = any(o.op == "cast" and self._is_integer(result) for result, o in reached.items())
        return {name, *(r for r, o in reached.items() if o.op in _INTEGER)} if back else set()

    def _is_integer(self, name: str) -> bool:
        dtype = self._dtypes.get(name)
        return dtype is not None and not dtype.is_floating_point
