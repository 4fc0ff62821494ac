"""Distances between two sets of outputs, in float64, with the same digits on every machine.

Sums run in numpy's pairwise order on one thread and are joined by ``math.fsum``. torch's own
reductions depend on the number of threads and on the instruction set, so a metric's last digit
would change although the program did not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from pte_foundry.errors import InputError
from pte_foundry.models.tensors import Sample
from pte_foundry.validate.schema import SQNR_CAP_DB, Metrics


def compare(outputs: Sequence[Sample], reference: Sequence[Sample]) -> Metrics:
    """Compares outputs with reference outputs, both as float64.

    A nan on either side, or an infinity on one side only, makes ``sqnr_db``, ``cosine`` and
    ``max_abs_error`` ``None``: such outputs have no distance. Infinities common to both sides
    (masks) count as equal.

    Args:
        outputs: one tuple of tensors for each sample, of any shapes and dtypes.
        reference: as many samples, each with as many tensors of the same shapes.

    Returns:
        ``sqnr_db``: ``10 log10(sum(ref^2) / sum((ref - out)^2))`` over all samples and outputs, in
        dB, within ±``SQNR_CAP_DB``.
        ``cosine``: cosine similarity of a sample's outputs, concatenated to one vector; the mean
        over samples.
        ``max_abs_error``: the largest absolute difference, in the unit of the outputs.
        ``top1_agreement``: the share of equal argmax along the last axis of the first output;
        ``None`` where that axis has fewer than two elements or does not exist.
        ``worst``: ``{"sample", "sqnr_db", "cosine"}`` of the sample with the lowest SQNR.

    Raises:
        InputError: there are no samples, or the samples, outputs or shapes do not correspond.
    """
    _check(outputs, reference)
    samples = [_SampleSums.of(out, ref) for out, ref in zip(outputs, reference, strict=True)]
    scores = [(sample.sqnr_db, sample.cosine) for sample in samples]
    worst = min(range(len(samples)), key=lambda i: _lowest_first(scores[i]))
    cosines = [cosine for _, cosine in scores]
    finite = None not in cosines
    return {
        "sqnr_db": sqnr_db(
            math.fsum(sample.signal for sample in samples),
            math.fsum(sample.noise for sample in samples),
        ),
        "cosine": math.fsum(cosines) / len(cosines) if finite else None,
        "max_abs_error": max(sample.largest for sample in samples) if finite else None,
        "top1_agreement": _top1_agreement(outputs, reference),
        "worst": {"sample": worst, "sqnr_db": scores[worst][0], "cosine": scores[worst][1]},
    }


class _SampleSums:
    """The sums of one sample. ``noise`` is nan where the two sides have no distance."""

    def __init__(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
        errors = [_error(out, ref) for out, ref in pairs]
        # An infinity on both sides is equal (error 0) and would drown every other value.
        outs = [np.where(np.isfinite(out), out, 0.0) for out, _ in pairs]
        refs = [np.where(np.isfinite(ref), ref, 0.0) for _, ref in pairs]
        self.signal = math.fsum(float(np.sum(ref * ref)) for ref in refs)
        self.noise = math.fsum(float(np.sum(error * error)) for error in errors)
        self.largest = max((float(np.max(np.abs(e), initial=0.0)) for e in errors), default=0.0)
        self._power = math.fsum(float(np.sum(out * out)) for out in outs)
        self._inner = math.fsum(
            float(np.sum(out * ref)) for out, ref in zip(outs, refs, strict=True)
        )

    @classmethod
    def of(cls, out: Sample, ref: Sample) -> _SampleSums:
        return cls([(as_vector(o), as_vector(r)) for o, r in zip(out, ref, strict=True)])

    @property
    def sqnr_db(self) -> float | None:
        return sqnr_db(self.signal, self.noise)

    @property
    def cosine(self) -> float | None:
        if not math.isfinite(self.noise):
            return None
        if not self.signal or not self._power:
            return 1.0 if self.signal == self._power else 0.0
        cosine = self._inner / (math.sqrt(self.signal) * math.sqrt(self._power))
        return max(-1.0, min(1.0, cosine))


def as_vector(tensor: torch.Tensor) -> np.ndarray:
    """Returns a tensor's elements in row-major order, as a float64 array of shape (N,)."""
    return tensor.detach().to("cpu", torch.float64).contiguous().reshape(-1).numpy()


def _error(out: np.ndarray, ref: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # inf - inf is nan: replaced where the two are equal
        error = np.where(out == ref, 0.0, ref - out)
    return np.where(np.isfinite(error), error, np.nan)


def sqnr_db(signal: float, noise: float) -> float | None:
    """Returns signal power over noise power in dB, within ±``SQNR_CAP_DB``.

    ``None`` if the noise is not finite; the cap if there is none.
    """
    if not math.isfinite(noise):
        return None
    if noise == 0.0:
        return SQNR_CAP_DB
    if signal == 0.0:
        return -SQNR_CAP_DB
    value = 10.0 * (math.log10(signal) - math.log10(noise))
    return max(-SQNR_CAP_DB, min(SQNR_CAP_DB, value))


def _lowest_first(score: tuple[float | None, float | None]) -> tuple[float, float]:
    """Sort key: a sample without a score is the worst."""
    return tuple(-math.inf if value is None else value for value in score)


def _top1_agreement(outputs: Sequence[Sample], reference: Sequence[Sample]) -> float | None:
    equal = total = 0
    for out, ref in zip(outputs, reference, strict=True):
        if ref[0].dim() == 0 or ref[0].shape[-1] <= 1:
            return None
        classes = ref[0].shape[-1]
        a, b = (as_vector(side[0]).reshape(-1, classes) for side in (out, ref))
        # numpy's argmax takes the first of equal values; a row with a nan has no top class.
        same = (a.argmax(-1) == b.argmax(-1)) & ~np.isnan(a).any(-1) & ~np.isnan(b).any(-1)
        equal += int(same.sum())
        total += len(same)
    return equal / total if total else None


def _check(outputs: Sequence[Sample], reference: Sequence[Sample]) -> None:
    if not reference:
        raise InputError("There are no samples to compare; give at least one.")
    if len(outputs) != len(reference):
        raise InputError(
            f"{len(outputs)} samples of outputs against {len(reference)} of the reference; "
            "compute both from the same evaluation samples."
        )
    for index, (out, ref) in enumerate(zip(outputs, reference, strict=True)):
        if not ref:
            raise InputError(f"Sample {index}: the reference has no outputs to compare.")
        ours, theirs = ([tuple(tensor.shape) for tensor in side] for side in (out, ref))
        if ours != theirs:
            raise InputError(
                f"Sample {index}: outputs of shapes {ours} do not match the reference's {theirs}."
            )
