"""Hazards of integers: rounded in fp16, or narrowed to 16 bits where they do not fit.

fp16 has every integer up to 2048; of larger ones it has every second, fourth and so on. Core ML has
few integer operations, so coremltools computes many in fp16.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from typing import TYPE_CHECKING

import torch

from pte_foundry.validate.schema import HazardKind

if TYPE_CHECKING:
    from pte_foundry.mil import Program
    from pte_foundry.mil.run import Operation

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

_RANGES = {"int8": 8, "uint8": 8, "int16": 16, "uint16": 16}


class Flow:
    """Which operations the results of others reach; nested blocks are left out."""

    def __init__(self, program: Program) -> None:
        self._readers: dict[str, list[Operation]] = {}
        for operation in program.operations():
            for name in {name for names in operation.inputs.values() for name in names}:
                self._readers.setdefault(name, []).append(operation)

    def readers(self, name: str) -> list[Operation]:
        """Returns the operations that read a value."""
        return self._readers.get(name, [])

    def reaches(self, name: str, ends: Set[str], path: Set[str]) -> bool:
        """Returns whether a value reaches an operation of ``ends`` through those of ``path``."""
        return any(operation.op in ends for operation in self._reached(name, path))

    def through(self, name: str) -> set[str]:
        """Returns the values computed from an integer, if it becomes an integer again; or none."""
        reached = self._reached(name, _INTEGER)
        back = any(o.op == "cast" and _dtype(o).startswith(("int", "uint")) for o in reached)
        return {o.outputs[0].name for o in reached if o.op in _INTEGER} if back else set()

    def _reached(self, name: str, path: Set[str]) -> list[Operation]:
        found: dict[int, Operation] = {}
        names = [name]
        for value in names:  # the loop appends to it
            for operation in self.readers(value):
                if id(operation) not in found:
                    found[id(operation)] = operation
                    if operation.op in path:
                        names += [output.name for output in operation.outputs]
        return list(found.values())


class Integers:
    """Records integers, and fp16 values beyond :data:`EXACT`."""

    def __init__(self) -> None:
        self._inexact: Counter[str] = Counter()  # executions, by value
        self._large: Counter[str] = Counter()
        self._outside: dict[str, Counter[str]] = {}  # by dtype, then by value

    def record(self, name: str, value: torch.Tensor, low: float, high: float) -> None:
        """Records one value; ``low`` and ``high`` are its extremes."""
        if value.is_floating_point():
            if value.dtype == torch.float16 and EXACT < max(-low, high) < float("inf"):
                self._large[name] += 1
            return
        for dtype in _RANGES:
            limits = torch.iinfo(getattr(torch, dtype))
            if low < limits.min or high > limits.max:
                self._outside.setdefault(dtype, Counter())[name] += 1
        if max(-low, high) > EXACT:
            wide = value.to(torch.int64)
            exact = wide.to(torch.float64)
            self._inexact[name] += bool((exact.to(torch.float16).to(torch.float64) != exact).any())

    def findings(
        self, program: Program, flow: Flow, inputs: Set[str]
    ) -> list[tuple[str, HazardKind, int]]:
        """Returns the value, the kind and the number of executions of each hazard."""
        found: list[tuple[str, HazardKind, int]] = []
        computed: set[str] = set()
        for operation in program.operations():
            if operation.op != "cast" or not operation.inputs.get("x"):
                continue
            source, result = operation.inputs["x"][0], operation.outputs[0].name
            if count := self._outside.get(_dtype(operation), Counter())[source]:
                found.append((result, "integer_wrap", count))
            if _dtype(operation) != "fp16" or not self._is_integer(program, source, inputs):
                continue
            through = flow.through(result)
            computed |= through
            if count := self._inexact[source]:
                found.append((result, "integer_rounded" if through else "fp16_integer", count))
        return found + [
            (name, "fp16_integer", self._large[name])
            for name in sorted(computed & self._large.keys())
        ]

    def _is_integer(self, program: Program, name: str, inputs: Set[str]) -> bool:
        if name in inputs:
            types = {value.name: value.type for value in program.functions["main"].inputs}
            return types[name].dtype.name.startswith(("int", "uint"))
        return _dtype_of(program.operation(name), name).startswith(("int", "uint"))


def _dtype(operation: Operation) -> str:
    return operation.outputs[0].type.dtype.name


def _dtype_of(operation: Operation, name: str) -> str:
    return next(o.type.dtype.name for o in operation.outputs if o.name == name)
