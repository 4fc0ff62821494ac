"""Hazards: operations in which infinities, nans or values near the limit of fp16 arise.

A hazard is reported where it starts: at an operation whose result is worse than all its inputs.
Values that an earlier overflow has spoiled are not reported again, nor are attention masks. Of a
constant that the model has as a finite number and the program as an infinity, the number is named.
:mod:`pte_foundry.validate.integer_hazards` looks at integers, :mod:`pte_foundry.validate.clipping`
at the ranges of quantized values.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from pte_foundry.validate.clipping import Clipping
from pte_foundry.validate.hazards_schema import Hazard, HazardKind
from pte_foundry.validate.integer_hazards import MOVING, Flow, Integers

if TYPE_CHECKING:
    from pte_foundry.mil import Program
    from pte_foundry.mil.instructions import Operation
    from pte_foundry.mil.program import Function

FP16_MAX = 65504.0
"""Largest finite IEEE 754 binary16 value."""

NEAR_OVERFLOW = 0.5 * FP16_MAX
"""One doubling from overflow: another order of summation may already give an infinity."""

_FINE, _NEAR, _INFINITE, _NAN = range(4)
# These have poles and reach infinity in floats of any width; in other operations fp16 overflowed.
_POLES = frozenset({"atanh", "inverse", "log", "pow", "real_div", "rsqrt", "tan"})
# Operations that make attention masks. Hugely negative results that come from a constant or an
# input of the program are intended; of add and sub only if a softmax or the like reads them.
_MASKING = frozenset({"add", "fill", "fill_like", "pad", "select", "sub"})
_ARITHMETIC = frozenset({"add", "sub"})
_MASK_READERS = frozenset(
    {"exp", "exp2", "reduce_argmax", "reduce_log_sum_exp", "reduce_max"}
    | {"scaled_dot_product_attention", "softmax", "topk"}
)
_MASK_PATH = _ARITHMETIC | {"cast", "clip", "maximum", "minimum", "mul", "select"} | MOVING
# Without a bound, coremltools writes clip with the largest fp32 numbers.
_UNBOUNDED = frozenset({"clip"})
_UNSIGNED = frozenset({torch.uint16, torch.uint32, torch.uint64})  # torch has no aminmax
_FIX = "use -1e4 or a boolean mask"


class _Levels(NamedTuple):
    """How bad the lowest and the highest value of a tensor are. A nan is both."""

    low: int
    high: int
    fp16: bool


_HARMLESS = _Levels(_FINE, _FINE, False)


class Hazards:
    """Collects the hazards of all runs of one program: ``program.run(…, tap=hazards.tap)``.

    Args:
        program: returns the program, for what its values are quantized in; None: not looked at.
    """

    def __init__(self, program: Callable[[], Program | Function] | None = None) -> None:
        self._clipping = Clipping(program) if program else None
        self._runs: Counter[str] = Counter()
        self._levels: dict[str, dict[int, _Levels]] = {}
        self._inputs: set[str] = set()
        self._integers = Integers()

    def observe(self, inputs: Mapping[str, Any]) -> None:
        """Records the inputs of one run, arrays by name. Without it their integers do not count."""
        self._inputs |= inputs.keys()
        for name, value in inputs.items():
            self.tap(name, torch.from_numpy(value))

    def tap(self, name: str, value: torch.Tensor) -> None:
        """Records one value or input, of any shape and dtype. Costs one ``aminmax``."""
        run = self._runs[name]
        self._runs[name] += 1
        if not value.numel() or value.dtype == torch.bool:
            return
        wide = value.to(torch.int64) if value.dtype in _UNSIGNED else value
        low, high = (float(bound) for bound in wide.aminmax())
        self._integers.record(name, value, low, high)
        if not value.is_floating_point():
            return
        if self._clipping:
            self._clipping.record(name, value, low, high)
        fp16 = value.dtype == torch.float16
        levels = _Levels(_level(low, fp16), _level(high, fp16), fp16)
        if levels.low or levels.high:
            self._levels.setdefault(name, {})[run] = levels

    def findings(
        self,
        program: Program | Function,
        torch_sources: Mapping[str, str] | None = None,
        beyond_fp16: Mapping[str, float] | None = None,
    ) -> list[Hazard]:
        """Returns the hazards, worst first, then by value name.

        Args:
            program: the program whose values were recorded.
            torch_sources: value name to its torch operators (:func:`torch_sources`).
            beyond_fp16: value name, of constants too, to a finite constant of its torch operator
                that fp16 does not have (:func:`constants_beyond_fp16`).
        """
        sources = torch_sources or {}
        flow = Flow(self._runs.keys() - self._inputs, program)
        constants = _infinite_constants(program, flow, beyond_fp16) if beyond_fp16 else {}
        found: list[tuple[tuple[int, HazardKind], str, int]] = []
        for name, levels_by_run in self._levels.items():
            if name in self._inputs:
                continue
            operation = program.operation(name)
            # An infinity that the model has too is meant, whoever reads it.
            masks = self._may_mask(operation, name, flow) or (
                operation.op in _ARITHMETIC
                and name not in constants
                and any(map(_infinities, program.constants(name).values()))
            )
            counts: Counter[tuple[int, HazardKind]] = Counter()
            for run, levels in levels_by_run.items():
                level = levels.high if masks else max(levels.low, levels.high)
                if level > self._worst_input(operation, name, run):
                    counts[-level, _kind(level, levels.fp16, operation.op)] += 1
            found += [(key, name, count) for key, count in counts.items()]
        found += [((0, kind), name, count) for name, kind, count in self._integers.findings(flow)]
        found += [((0, "constant_overflow"), name, self._runs[name]) for name in constants]
        found.sort()
        clipped = self._clipping.findings() if self._clipping else []
        return [
            {
                "op": program.operation(name).op,
                "name": name,
                "torch_source": sources.get(name),
                "kind": kind,
                "count": count,
                **({"constant": constants[name]} if name in constants else {}),
            }
            for (_, kind), name, count in found
        ] + [
            {
                "op": program.operation(result).op,
                "name": result,
                "torch_source": sources.get(name) or sources.get(result),
                "kind": "clipped",
                "count": count,
                "cause": cause,
            }
            for result, name, count, cause in sorted(clipped, key=lambda one: (-one[2], one[0]))
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

    def _may_mask(self, operation: Operation, name: str, flow: Flow) -> bool:
        # Constants are not tapped; literal constants have no name either.
        constant = operation.op in _MASKING and any(
            not values or any(v in self._inputs or v not in self._runs for v in values)
            for values in operation.inputs.values()
        )
        if not constant or operation.op not in _ARITHMETIC:
            return constant
        return any(o.op in _MASK_READERS for o in flow.reached(name, _MASK_PATH).values())


def _infinite_constants(
    program: Program | Function, flow: Flow, beyond_fp16: Mapping[str, float]
) -> dict[str, str]:
    """Constants that are finite in the model and infinite here, by the value they lead to."""
    found = {}
    for name, operation in flow.operations.items():
        if operation.op in _UNBOUNDED:
            continue
        for parameter, constant in program.constants(name).items():
            for infinity in _infinities(constant):
                near = (*operation.inputs.get(parameter, ()), name)
                value = _finite(infinity, near, beyond_fp16)
                if value is not None:
                    fix = f"; {_FIX}" if infinity < 0 else ""
                    found[name] = f"{value:.8g} became {infinity} in fp16{fix}"
    return found


def _infinities(constant: Any) -> list[float]:
    """The infinities that a constant argument contains, each once."""
    if isinstance(constant, float):
        return [constant] if math.isinf(constant) else []
    if not isinstance(constant, torch.Tensor) or not constant.is_floating_point():
        return []
    return [sign for sign in (-math.inf, math.inf) if bool((constant == sign).any())]


def _finite(
    infinity: float, names: tuple[str, ...], beyond_fp16: Mapping[str, float]
) -> float | None:
    """The model's number for an infinity: of these values, else of the program if it has one."""
    near = [beyond_fp16[name] for name in names if name in beyond_fp16]
    signed = [value for value in near or beyond_fp16.values() if value * infinity > 0]
    return signed[0] if near and signed else signed[0] if len(set(signed)) == 1 else None


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


def constants_beyond_fp16(
    debug_info: Mapping[str, Any], beyond_fp16: Mapping[str, float]
) -> dict[str, float]:
    """Returns the finite constants that fp16 does not have, by the values of a Core ML program.

    Args:
        debug_info: as for :func:`torch_sources`.
        beyond_fp16: debug handle, as a string, to a constant of the operator, from the ``lower``
            step (``pte_foundry.lowering.constants``).
    """
    found = {}
    for symbol, handles in (debug_info.get("debugSymbolToHandles") or {}).items():
        for handle in map(str, handles):
            if handle in beyond_fp16:
                found[symbol.rpartition(":")[0] or symbol] = beyond_fp16[handle]
    # Constants that coremltools folded have no value of their own.
    return found | {f"#{handle}": value for handle, value in beyond_fp16.items()}


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
