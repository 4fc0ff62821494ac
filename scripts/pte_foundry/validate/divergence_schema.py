"""The divergence report: every key, with its meaning and unit.

``steps.diverge`` and ``pte-foundry diverge`` write it; :mod:`pte_foundry.validate.divergence`
explains how it is measured.
"""

from typing import NotRequired

from typing_extensions import TypedDict

from pte_foundry.validate.hazards_schema import HazardKind


class DivergedArtifact(TypedDict):
    """The compared ``.pte`` file."""

    path: str
    sha256: str


class ValueRange(TypedDict):
    """Range of a layer's result over all samples."""

    low: float | None
    """Lowest finite value; null if there is none."""
    high: float | None
    """Highest finite value; null if there is none."""
    non_finite: int
    """Number of values that are infinite or nan."""


class LayerDivergence(TypedDict):
    """The error of one layer, as SQNR over the power of its fp32 result.

    SQNRs are in dB, within ± ``metrics_schema.SQNR_CAP_DB``; null stands for infinite noise.
    """

    layer: list[str]
    """Its torch operators, each ``operator @ module`` (``models.operators.labels``)."""
    position: int
    """Of its last operator in the fp32 program, from 0."""
    op: str
    """Type of its last MIL operation."""
    value: str
    """Name of the MIL value that was compared."""
    introduced_sqnr_db: float | None
    """Local error: against the fp32 operators, given the artifact's own inputs of the layer."""
    accumulated_sqnr_db: float | None
    """Against the fp32 program, given the same sample."""
    reference: ValueRange
    program: ValueRange
    hazards: list[HazardKind]
    """Kinds that arise in the layer, each once."""
    method: NotRequired[str]
    """Absent if the model has only one."""


class DivergenceReport(TypedDict):
    """``results/divergence/{model}/{recipe}/{target}.json``."""

    layers: list[LayerDivergence]
    """By introduced SQNR, lowest first."""
    uncovered: list[str]
    """Operators without a comparable value in the artifact, in the order of the fp32 program. A
    method without recorded calls has one entry, for all of its operators."""
    samples: int
    """Number of evaluation samples that were run; of conversations, number of calls."""
    artifact: NotRequired[DivergedArtifact]
