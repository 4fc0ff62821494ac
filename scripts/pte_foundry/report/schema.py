"""The summary of all builds, ``results/summary.json``: every key, with its meaning and unit.

It carries over what the validation reports contain; see :mod:`pte_foundry.validate.schema`.
"""

from typing_extensions import TypedDict

from pte_foundry.validate.schema import (
    Build,
    Device,
    GateVerdict,
    LatencyMs,
    Measurement,
    Metrics,
    Status,
    TargetDetails,
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


class SummaryRecord(Measurement):
    """One build. Its measurement is that of the main device, the first of ``devices``."""

    build: Build
    scheme: str | None
    minimum_os: str | None
    target_details: TargetDetails
    paths: Paths
    sha256: str
    bytes: int
    gates: list[DeviceGate]
    """Of all devices."""
    devices: list[DeviceResult]
    status: Status
    """``fail`` if a report of any device is."""


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
