"""The error and the value ranges of one layer, summed over the samples of a divergence report."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch

from pte_foundry.validate.output_metrics import as_vector, sqnr_db

if TYPE_CHECKING:
    from pte_foundry.validate.divergence_schema import ValueRange


_Range = tuple[float, float, int]
"""Lowest and highest finite value (inf and -inf if there is none), number of other values."""


class Errors(TypedDict):
    """The part of a ``LayerDivergence`` that is computed here."""

    introduced_sqnr_db: float | None
    accumulated_sqnr_db: float | None
    reference: ValueRange
    program: ValueRange


@dataclass
class LayerError:
    """Power of a layer's signal and of its noise, and ranges, one entry for each sample."""

    _signal: list[float] = field(default_factory=list)
    _introduced: list[float] = field(default_factory=list)
    _accumulated: list[float] = field(default_factory=list)
    _program: list[_Range] = field(default_factory=list)
    _reference: list[_Range] = field(default_factory=list)

    def add(self, result: torch.Tensor, reference: torch.Tensor, local: torch.Tensor) -> None:
        """Adds one sample.

        Args:
            result: the artifact's result, of any shape and float dtype.
            reference: the fp32 program's result for the same sample, of the same shape.
            local: the result of the fp32 operators on the artifact's own inputs of the layer.
        """
        ours, theirs, own = (as_vector(value) for value in (result, reference, local))
        finite = theirs[np.isfinite(theirs)]
        self._signal.append(float(np.sum(finite * finite)))
        self._accumulated.append(_noise(ours, theirs))
        self._introduced.append(_noise(ours, own))
        self._program.append(_range(ours))
        self._reference.append(_range(theirs))

    def summed(self) -> Errors:
        """Returns the SQNRs in dB and the ranges over all samples."""
        signal = math.fsum(self._signal)
        return {
            "introduced_sqnr_db": sqnr_db(signal, math.fsum(self._introduced)),
            "accumulated_sqnr_db": sqnr_db(signal, math.fsum(self._accumulated)),
            "reference": _union(self._reference),
            "program": _union(self._program),
        }


def _noise(ours: np.ndarray, expected: np.ndarray) -> float:
    """Power of the difference where ``expected`` is finite; infinite if ``ours`` is not there."""
    finite = np.isfinite(expected)
    error = ours[finite] - expected[finite]
    return float(np.sum(error * error)) if np.isfinite(error).all() else math.inf


def _range(values: np.ndarray) -> _Range:
    finite = values[np.isfinite(values)]
    lowest = float(np.min(finite, initial=math.inf))
    return lowest, float(np.max(finite, initial=-math.inf)), len(values) - len(finite)


def _union(ranges: list[_Range]) -> ValueRange:
    lows, highs, counts = zip(*ranges, strict=True)
    low, high = min(lows), max(highs)
    if low > high:  # there was no finite value
        low = high = None
    return {"low": low, "high": high, "non_finite": sum(counts)}
