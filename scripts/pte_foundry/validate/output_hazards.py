"""Outputs that are lost: all zeros, or constant, though the reference is not.

An SQNR does not tell them from others that are merely imprecise: zeros have 0 dB, which is more
than some compression reaches, and 1000 in place of 1000 plus a signal of ±1 has 60 dB. Such an
output is what fp16 underflow, a dead branch, or an operator that a converter drops leaves behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import torch

from pte_foundry.models.tensors import Sample
from pte_foundry.validate.hazards_schema import Hazard, HazardKind
from pte_foundry.validate.output_metrics import as_integers, is_floating, single_value

FP16_STEP = 2.0**-10
"""Distance of neighbouring fp16 values, relative to their magnitude; at most, in normal range."""

FP16_ZERO = 2.0**-25
"""The largest magnitude that fp16 rounds to zero."""

FP32_STEP = 2.0**-23
"""The same for fp32."""

_NOISE = 2.0**-20
"""Differences in a reference below this, relative to its largest value, may be fp32 rounding."""

# Of integers and booleans, this many values or this share may differ from a constant by rounding:
# a mask that is True in one element of a thousand may well lose it.
_FEW, _SHARE = 2, 0.1


def output_hazards(
    names: Sequence[str],
    outputs: Sequence[Sample],
    reference: Sequence[Sample],
    step: float = FP16_STEP,
) -> list[Hazard]:
    """Returns a hazard for each lost output, with the number of samples as its count.

    Args:
        names: of the outputs.
        outputs: for each sample its outputs.
        reference: as many samples, each with as many outputs.
        step: relative distance of neighbouring numbers in which the program computes: what differs
            less in the reference may well be equal there.
    """
    hazards: list[Hazard] = []
    for position, name in enumerate(names):
        ours, theirs = ([sample[position] for sample in side] for side in (outputs, reference))
        if kind := _lost(ours, theirs, step):
            lost: Hazard = {
                "op": "output",
                "torch_source": None,
                "kind": kind,
                "count": len(ours),
                "output": name,
            }
            if step == FP16_STEP and (cause := _underflow(theirs)):
                lost["cause"] = cause
            hazards.append(lost)
    return hazards


def _underflow(theirs: list[torch.Tensor]) -> str:
    """Says that fp16 has no such small values, if that is so."""
    if not is_floating(theirs[0]):
        return ""
    largest = max(float(tensor.abs().max()) for tensor in theirs if tensor.numel())
    if largest > FP16_ZERO:
        return ""
    return (
        f"in fp32 it is at most {largest:.1e}, which fp16 rounds to 0; scale it up, or set the "
        "target's compute_precision to float32 (weights of an untrained model are often the cause)"
    )


def _lost(ours: list[torch.Tensor], theirs: list[torch.Tensor], step: float) -> HazardKind | None:
    if any(out.shape != ref.shape for out, ref in zip(ours, theirs, strict=True)):
        return None  # a finding of its own
    exact = not is_floating(theirs[0])
    value = single_value(ours)
    if value is not None:
        pooled = np.concatenate([as_integers(ref) for ref in theirs])
        differs = pooled != value
        if value == 0:
            lost = _are_many(differs) if exact else bool(differs.any())
            return "output is all zeros" if lost else None
        spread = pooled.min(keepdims=True), pooled.max(keepdims=True)
    elif len(ours) > 1 and all(torch.equal(out, ours[0]) for out in ours[1:]):
        # Not one number, but the same tensor whatever the input is.
        if any(ref.shape != theirs[0].shape for ref in theirs):
            return None
        samples = [as_integers(ref) for ref in theirs]
        differs = np.concatenate([sample != samples[0] for sample in samples])
        spread = reduce(np.minimum, samples), reduce(np.maximum, samples)
    else:
        return None
    varies = bool((spread[0] != spread[1]).any()) and _are_many(differs)
    if not exact:
        varies = _varies(*spread, step)
    return "output is constant" if varies else None


def _are_many(differs: np.ndarray) -> bool:
    count = int(np.count_nonzero(differs))
    return count > _FEW or count >= _SHARE * max(differs.size, 1) > 0


def _varies(low: np.ndarray, high: np.ndarray, step: float) -> bool:
    """Whether values between these bounds, element by element, must differ after rounding."""
    size = np.maximum(np.abs(low), np.abs(high))
    if not np.isfinite(size).all():
        return False
    # Correctly rounded, values differ if they are more than one step apart; two for good measure.
    least = np.maximum(2 * step * size, _NOISE * size.max(initial=0.0))
    return bool((high - low > least).any())
