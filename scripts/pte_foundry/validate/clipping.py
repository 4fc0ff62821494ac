"""Clipping: activations beyond the range that static quantization gives them.

The range is that of the calibration samples. What lies beyond is cut off. Too few calibration
samples, or samples unlike those of the evaluation, show as a low SQNR that no single layer
explains.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from pte_foundry.mil.program import Function, Program

TOLERATED = 0.01
"""Share of a tensor's power that may be cut off: 20 dB from clipping alone. Less is often
intended: moving averages and percentiles leave outliers out."""


class _Range(NamedTuple):
    result: str
    low: float
    high: float
    step: float


class Clipping:
    """Collects how far the values of one program exceed the ranges that they are quantized in.

    Args:
        program: returns the program; called at the first value.
    """

    def __init__(self, program: Callable[[], Program | Function]) -> None:
        self._program = program
        self._ranges: dict[str, list[_Range]] | None = None
        self._found: dict[_Range, tuple[str, int, float, float]] = {}

    def record(self, name: str, value: torch.Tensor, low: float, high: float) -> None:
        """Records a value whose elements lie between two bounds."""
        if self._ranges is None:
            self._ranges = ranges(self._program())
        for limits in self._ranges.get(name, ()):
            half = limits.step / 2  # rounded to the bound, as any other value
            if low >= limits.low - half and high <= limits.high + half:
                continue
            wide = value.to(torch.float32)
            lost = (wide - wide.clamp(limits.low, limits.high)).square().sum()
            if lost > TOLERATED * wide.square().sum():
                _, count, lowest, highest = self._found.get(limits, (name, 0, low, high))
                bounds = min(low, lowest), max(high, highest)
                self._found[limits] = name, count + 1, *bounds

    def findings(self) -> list[tuple[str, str, int, str]]:
        """Returns result and input of each operation that clips, the number of runs, the cause."""
        return [
            (
                limits.result,
                name,
                count,
                f"values of {low:.3g} … {high:.3g} in a range of {limits.low:.3g} … "
                f"{limits.high:.3g}; calibrate with more samples, or more representative ones",
            )
            for limits, (name, count, low, high) in self._found.items()
        ]


def ranges(program: Program | Function) -> dict[str, list[_Range]]:
    """Returns the ranges that values are quantized in, by value; of whole tensors only."""
    found: dict[str, list[_Range]] = {}
    for operation in program.operations():
        if operation.op != "quantize" or not operation.inputs.get("input"):
            continue
        result = operation.outputs[0].name
        constants = program.constants(result)
        scale, zero = (torch.as_tensor(constants.get(key, 0)) for key in ("scale", "zero_point"))
        if scale.numel() != 1 or zero.numel() != 1:
            continue
        limits = torch.iinfo(getattr(torch, str(constants["output_dtype"])))
        low, high = ((bound - int(zero)) * float(scale) for bound in (limits.min, limits.max))
        made = _Range(result, low, high, float(scale))
        found.setdefault(operation.inputs["input"][0], []).append(made)
    return found
