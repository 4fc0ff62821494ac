"""The numbers of a comparison in the validation report: every key, with its meaning and unit."""

from typing import NotRequired

from annotated_types import IsFinite
from typing_extensions import TypedDict

SQNR_CAP_DB = 200.0
"""SQNR in dB of equal outputs, whose true value is infinite. Every SQNR is within ± this value."""

Number = IsFinite[float]
"""A finite number; whole numbers stay integers in JSON."""


class WorstSample(TypedDict):
    """The evaluation sample with the lowest SQNR, or for integers the lowest share of equal values.

    The numbers are those of this sample; see :class:`OutputMetrics`.
    """

    sample: int
    """Its index, from 0."""
    sqnr_db: Number | None
    cosine: Number | None
    equal_fraction: NotRequired[Number | None]
    output: NotRequired[str]
    """Name of the output, where the sample is the worst over all outputs."""


class StageLoss(TypedDict):
    """An output between the programs of two stages; see :class:`OutputMetrics`."""

    sqnr_db: Number | None
    equal_fraction: Number | None


class OutputStages(TypedDict):
    """Where the loss of an output arises; see :class:`Stages`."""

    quantization: StageLoss
    lowering: StageLoss


class OutputMetrics(TypedDict):
    """One output of a program compared with the same output of another.

    The rules for constant, all-zero, empty and non-finite outputs are in
    :mod:`pte_foundry.validate.output_metrics`. An output is floating point, or integer or boolean,
    as in the reference. Numbers that its kind does not have are null.
    """

    name: str
    """As ``output_names()`` of the model module returns it, else its keys joined by dots, else
    ``output_0`` and so on."""
    sqnr_db: Number | None
    """Floating point: signal-to-quantization-noise ratio over all samples, in dB, within ±
    ``SQNR_CAP_DB``; null if the output has a nan, an infinity on one side only, or another shape
    than the reference."""
    cosine: Number | None
    """Floating point: cosine similarity of a sample, mean over samples, from -1 to 1; null
    likewise, and if the reference is zero in all samples but the output is not."""
    max_abs_error: Number | None
    """Largest absolute difference, in the unit of the output; null likewise."""
    equal_fraction: NotRequired[Number | None]
    """Integer and boolean: share of equal values, from 0 to 1; null if the shapes differ."""
    top1_agreement: NotRequired[Number | None]
    """Share of equal argmax along the class axis, from 0 to 1; null if the output is not known to
    have one (:mod:`pte_foundry.validate.agreement`)."""
    dtype: NotRequired[str]
    """Of the reference, as torch names it: ``float32``."""
    shape: NotRequired[list[int | None] | None]
    """Of the reference; null in place of a size that differs between samples, or of all sizes if
    the rank does."""
    constant: NotRequired[bool]
    """True if the reference is one and the same number in all elements of all samples."""
    worst: NotRequired[WorstSample]
    problem: NotRequired[str]
    """Why there are no numbers."""
    stages: NotRequired[OutputStages]


class Metrics(TypedDict, extra_items=Number | None):
    """All outputs of one program compared with those of another (``validate.metrics.compare``).

    Every number is that of the output where it is worst; see :class:`OutputMetrics`. Every other
    key is a task metric: a number that ``score()`` or ``agreement()`` of the model module returned,
    or ``<name>_change``, its difference from the same score of the other program. A task metric is
    null if the function failed or did not return a finite number.
    """

    sqnr_db: Number | None
    """Lowest of the floating-point outputs, in dB; null if there are none, or if one has none."""
    cosine: Number | None
    """Lowest of the floating-point outputs, from -1 to 1; null likewise."""
    max_abs_error: Number | None
    """Largest of the floating-point outputs, or of the integer ones if there are no others."""
    top1_agreement: Number | None
    """Of the output with a class axis, or as ``agreement()`` returns it; null if there is none."""
    equal_fraction: NotRequired[Number | None]
    """Lowest of the integer and boolean outputs, from 0 to 1; null if there are none."""
    worst_output: NotRequired[str | None]
    """Name of the output whose ``sqnr_db`` this is, without floating-point outputs of the one whose
    ``equal_fraction`` it is."""
    worst: NotRequired[WorstSample | None]


COMMON_METRICS = tuple(Metrics.__annotations__)
"""Keys of :class:`Metrics` that are measured for every model; others are task metrics."""
