"""One output of a program compared with the same output of another, over all samples.

An output is floating point, or integer or boolean, as in the reference; the other program's dtype
may differ. Floating-point outputs are compared in float64, the others exactly, by value.

Rules for special outputs:

============================  =====================================================================
output                        rule
============================  =====================================================================
reference constant, not zero  As any other: noise is measured against the power of the constant.
reference zero in all samples Has no power. Noise is measured against a power of 1 for each element:
                              errors of 1e-9 are 180 dB, errors of 1 are 0 dB. Equal is the cap.
zero in one sample only       That sample is measured against the mean power over all samples.
infinity on both sides        Equal (a mask), if the signs are; left out of the power.
infinity on one side, nan     Has no distance: ``sqnr_db``, ``cosine`` and ``max_abs_error`` are
                              null. A nan on both sides too: it is never right.
no elements                   Equal.
other shape than reference    A result (``problem``), not an error: shapes may depend on data.
large offset, small signal    SQNR and cosine only tell that the offset is right; whether the signal
                              is lost altogether is what ``output_hazards`` finds.
============================  =====================================================================

Sums run in numpy's pairwise order on one thread and are joined by ``math.fsum``: torch's own
reductions depend on the number of threads and on the instruction set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pte_foundry.validate.metrics_schema import SQNR_CAP_DB, OutputMetrics, WorstSample

Pair = tuple[torch.Tensor, torch.Tensor]
"""An output of one sample, and the reference's."""

_NONE = dict.fromkeys(("sqnr_db", "cosine", "max_abs_error", "equal_fraction", "top1_agreement"))


def compare_output(name: str, pairs: Sequence[Pair]) -> OutputMetrics:
    """Compares one output over all samples.

    Args:
        name: of the output.
        pairs: for each sample, the output and the reference, of any shapes and dtypes.

    Returns:
        All metrics but ``top1_agreement``, which is null.
    """
    facts = {"name": name, **_facts([ref for _, ref in pairs])}
    for sample, (out, ref) in enumerate(pairs):
        if out.shape != ref.shape:
            shapes = f"{list(out.shape)}, the reference's is {list(ref.shape)}"
            worst: WorstSample = {"sample": sample, "sqnr_db": None, "cosine": None}
            problem = f"the shape differs: in sample {sample} it is {shapes}"
            return facts | _NONE | {"worst": worst, "problem": problem}
    measure = _floating if is_floating(pairs[0][1]) else _exact
    return facts | _NONE | measure(pairs)


def is_floating(reference: torch.Tensor) -> bool:
    """Whether an output is compared by SQNR (else by equality), given the reference's."""
    return reference.is_floating_point() or reference.is_complex()


def as_vector(tensor: torch.Tensor) -> np.ndarray:
    """Returns a tensor's elements in row-major order, as a float64 array of shape (N,).

    A complex element counts as two.
    """
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return tensor.detach().to("cpu", torch.float64).contiguous().reshape(-1).numpy()


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


def lowest_first(*scores: float | None) -> tuple[float, ...]:
    """Sort key: what has no score is the worst."""
    return tuple(-math.inf if score is None else score for score in scores)


def _floating(pairs: Sequence[Pair]) -> OutputMetrics:
    samples = [_Sums.of(as_vector(out), as_vector(ref)) for out, ref in pairs]
    count = sum(sample.count for sample in samples)
    # Without any power, a unit for each element stands in: the rules are in the module's docstring.
    signal = math.fsum(sample.signal for sample in samples) or float(count)
    scores = [
        (sqnr_db(s.signal or signal * s.count / (count or 1), s.noise), s.cosine) for s in samples
    ]
    worst = min(range(len(samples)), key=lambda i: lowest_first(*scores[i]))
    metrics = {
        "sqnr_db": sqnr_db(signal, math.fsum(sample.noise for sample in samples)),
        "worst": {"sample": worst, "sqnr_db": scores[worst][0], "cosine": scores[worst][1]},
    }
    if metrics["sqnr_db"] is None:
        problem = f"sample {worst} has a nan, or an infinity that the reference has not"
        return metrics | {"problem": problem}
    cosines = [cosine for _, cosine in scores if cosine is not None]
    return metrics | {
        "cosine": math.fsum(cosines) / len(cosines) if cosines else None,
        "max_abs_error": max(sample.largest for sample in samples),
    }


@dataclass(frozen=True)
class _Sums:
    """The sums of one sample. ``noise`` is nan where the two sides have no distance."""

    count: int
    signal: float
    noise: float
    largest: float
    power: float
    inner: float

    @classmethod
    def of(cls, out: np.ndarray, ref: np.ndarray) -> _Sums:
        with np.errstate(invalid="ignore"):  # inf - inf is nan: replaced where the two are equal
            error = ref - out
        if not np.isfinite(error).all():
            error = np.where(out == ref, 0.0, error)
            error = np.where(np.isfinite(error), error, np.nan)
            # An infinity on both sides is equal (error 0) and would drown every other value.
            out, ref = (np.where(np.isfinite(side), side, 0.0) for side in (out, ref))
        return cls(
            count=len(ref),
            signal=float(np.sum(ref * ref)),
            noise=float(np.sum(error * error)),
            largest=float(np.max(np.abs(error), initial=0.0)),
            power=float(np.sum(out * out)),
            inner=float(np.sum(out * ref)),
        )

    @property
    def cosine(self) -> float | None:
        """``None`` where only the reference is zero: there is no direction to deviate from."""
        if not math.isfinite(self.noise) or (self.power and not self.signal):
            return None
        if not self.signal or not self.power:
            return 0.0 if self.signal else 1.0
        cosine = self.inner / (math.sqrt(self.signal) * math.sqrt(self.power))
        return max(-1.0, min(1.0, cosine))


def _exact(pairs: Sequence[Pair]) -> OutputMetrics:
    equal, sizes, largest = [], [], []
    for out, ref in pairs:
        ours, theirs = as_integers(out), as_integers(ref)
        same = ours == theirs
        equal.append(int(np.count_nonzero(same)))
        sizes.append(len(theirs))
        largest.append(_largest_difference(ours[~same], theirs[~same]))
    shares = [part / size if size else 1.0 for part, size in zip(equal, sizes, strict=True)]
    worst = min(range(len(shares)), key=shares.__getitem__)
    return {
        "equal_fraction": sum(equal) / sum(sizes) if sum(sizes) else 1.0,
        "max_abs_error": None if None in largest else max(largest),
        "worst": {
            "sample": worst,
            "sqnr_db": None,
            "cosine": None,
            "equal_fraction": shares[worst],
        },
    }


def as_integers(tensor: torch.Tensor) -> np.ndarray:
    """Returns a tensor's elements in row-major order, as an array of shape (N,).

    Integers and booleans as int64 (uint64 as uint64), floats as they are, in float64.
    """
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    if is_floating(tensor):
        return as_vector(tensor)
    # torch compares hardly anything of the wide unsigned dtypes; numpy does.
    return plain.numpy() if tensor.dtype == torch.uint64 else plain.to(torch.int64).numpy()


def _largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float | int | None:
    """The largest absolute difference, exact for integers; ``None`` if it is not finite."""
    if not len(theirs):
        return 0
    if all(side.dtype == np.int64 for side in (ours, theirs)):
        # The difference of two int64 does not fit into one, but always into a uint64.
        larger, smaller = np.maximum(ours, theirs), np.minimum(ours, theirs)
        return int(np.max(larger.astype(np.uint64) - smaller.astype(np.uint64)))
    largest = float(np.max(np.abs(ours.astype(np.float64) - theirs.astype(np.float64))))
    return largest if math.isfinite(largest) else None


def _facts(references: Sequence[torch.Tensor]) -> OutputMetrics:
    """The facts about an output that do not depend on the other program."""
    facts = layout_of(references)
    return facts | {"constant": True} if single_value(references) is not None else facts


def layout_of(tensors: Sequence[torch.Tensor]) -> OutputMetrics:
    """Returns dtype and shape; null in place of a size that differs, or of all if the rank does."""
    shapes = [tuple(tensor.shape) for tensor in tensors]
    same_rank = len({len(shape) for shape in shapes}) == 1
    sizes = [set(column) for column in zip(*shapes, strict=True)] if same_rank else []
    return {
        "dtype": str(tensors[0].dtype).removeprefix("torch."),
        "shape": [size.pop() if len(size) == 1 else None for size in sizes] if same_rank else None,
    }


def single_value(tensors: Sequence[torch.Tensor]) -> float | int | None:
    """Returns the number that all elements of all tensors are; ``None`` if there is none."""
    found: set[float | int] = set()
    for tensor in tensors:
        if tensor.numel():
            values = as_integers(tensor)
            found |= {values.min().item(), values.max().item()}  # a nan equals nothing
            if len(found) > 1:
                return None
    return found.pop() if found else None
