"""The summary of all builds, ``results/summary.json``: every key, with its meaning and unit.

It carries over what the validation reports contain; see :mod:`pte_foundry.validate.schema`.
"""

from typing import NotRequired

from typing_extensions import TypedDict

from pte_foundry.validate.hazards_schema import Hazard, KnownIssue
from pte_foundry.validate.schema import (
    Artifact,
    Build,
    Device,
    GateVerdict,
    InputFacts,
    LatencyMs,
    LaxerGate,
    MethodFacts,
    Metrics,
    OutputMetrics,
    Stages,
    Status,
    TargetDetails,
    Weights,
)


class DeviceGate(GateVerdict):
    """A verdict with the device of its report."""

    device: str


class DeviceResult(Device):
    """The results of a build on one device; see :class:`ValidationReport`."""

    samples: int
    metrics: Metrics
    latency_ms: LatencyMs | None
    status: Status


class Paths(TypedDict):
    """Files of a build, relative to the folder of the build."""

    pte: str
    validation: dict[str, str]
    """The validation reports by device."""


class BuildError(TypedDict):
    """Why a build has no artifact or no validation report, or what its report has as error."""

    stage: str
    """The step that failed, or the part of a validation."""
    message: str
    log: str
    """Path of the failed step's log, relative to the folder of the build; empty if none."""
    subject: NotRequired[str]
    """What the failed step worked on: ``MODEL``, ``MODEL/RECIPE`` or more. It can stop several
    builds."""


class SummaryRecord(TypedDict):
    """One build. Its measurement is that of the main device, the first of ``devices``.

    A build without any report has an ``error``, no devices, no gates, ``null`` for every number,
    and ``null`` for what describes its artifact.
    """

    build: Build
    scheme: str | None
    minimum_os: str | None
    target_details: TargetDetails
    paths: Paths
    sha256: str | None
    bytes: int | None
    artifact: Artifact | None
    samples: int | None
    metrics: Metrics
    synthetic: NotRequired[list[str]]
    """What is made up: samples that the model does not define, and random weights."""
    sweep: NotRequired[str]
    weights: NotRequired[Weights]
    inputs: NotRequired[list[InputFacts]]
    methods: NotRequired[list[MethodFacts]]
    outputs: NotRequired[list[OutputMetrics]]
    stages: Stages
    hazards: list[Hazard]
    known_issues: list[KnownIssue]
    latency_ms: LatencyMs | None
    gates: list[DeviceGate]
    """Of all devices."""
    laxer_gates: NotRequired[list[LaxerGate]]
    devices: list[DeviceResult]
    status: Status
    """``fail`` if a report of any device is, or if there is an error."""
    error: NotRequired[BuildError]


class Totals(TypedDict):
    """Counts over all builds of a summary."""

    builds: int
    passed: int
    failed: int
    warned: int
    """Passed builds that miss a gate whose ``on_fail`` is ``warn``."""
    models: int
    bytes: int
    """Size of all artifacts in bytes."""
    hazards: int
    """Sum of the gate value ``hazards``: executions in which damage arises."""


class Summary(TypedDict):
    """``results/summary.json``."""

    builds: list[SummaryRecord]
    """By model, recipe and target."""
    totals: Totals
