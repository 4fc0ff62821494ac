"""The validation report: every key, with its meaning and unit.

This is the only definition, with what it imports from ``hazards_schema`` and ``metrics_schema``.
``steps.validate`` writes a :class:`ValidationReport`, which :mod:`pte_foundry.validate.check`
checks when it is written and when it is read; the gates, the summary, the table and the HTML report
use these types. Keys marked ``NotRequired`` may be absent; keys that are not listed are allowed in
every object and ignored. ``None`` (``null`` in JSON) stands for a number that is not defined,
because JSON has neither nan nor infinity.
"""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from pte_foundry.validate.hazards_schema import Hazard, KnownIssue
from pte_foundry.validate.metrics_schema import Metrics, Number, OutputMetrics

Status = Literal["pass", "fail"]


class Build(TypedDict):
    """The names of a build in the config."""

    model: str
    recipe: str
    target: str


class Artifact(TypedDict):
    """The validated ``.pte`` file."""

    path: str
    """Relative to the folder of the build."""
    sha256: str
    """Of the file, in lower-case hexadecimal."""
    bytes: int
    """Size of the file in bytes."""
    specification_version: int | None
    """Core ML's, the newest that a delegate needs (9: iOS 18); null without a Core ML delegate."""
    delegated_fraction: Number | None
    """Share of the program's torch operators that Core ML computes, from 0 to 1; null if the file
    is malformed."""
    ops: dict[str, int]
    """Number of MIL operations by type, over all delegates; constants are left out."""
    states: list[str]
    """Names of the Core ML states (mutable buffers), over all delegates."""
    accepts: NotRequired[dict[str, dict[str, str]]]
    """The inputs with more than one shape by method and name, as the Core ML program has them:
    ``int32[1..8]``, or ``fp32[1, ?] in the shapes [1, 1], [1, 8]``."""
    methods: NotRequired[list[str]]
    """Names of the program's methods, without those that only return a constant."""
    constants: NotRequired[dict[str, bool | int | float | str | list[int] | list[float]]]
    """Values of the methods that only return constants, for the app; a list if one has several."""
    kernels: NotRequired[dict[str, int]]
    """Number of calls of operators outside of delegates, by operator."""
    weight_bytes: NotRequired[dict[str, int]]
    """Bytes of the weights of all delegates, by MIL dtype; those that methods share once."""
    unshared_weight_bytes: NotRequired[int]
    """Bytes that the weights would take if methods shared none; absent if they share none."""


class Device(TypedDict):
    """Where the artifact was executed."""

    name: str
    """Of the device in the config."""
    kind: str
    """Of the device in the config, for example ``interpreter``."""
    engine: Literal["mil-reference", "executorch-runtime"]
    """Our interpreter of Core ML programs, or ExecuTorch's runtime with Core ML."""
    host: str
    """The machine: its architecture, for example ``x86_64``."""


class Stages(TypedDict):
    """The same metrics between the programs of successive stages: where the loss arises."""

    quantization: Metrics
    """The quantized torch program against the fp32 reference."""
    lowering: Metrics
    """The artifact against the quantized torch program."""
    device: NotRequired[Metrics]
    """A real device against the interpreter, for the same bytes."""


class LatencyMs(TypedDict):
    """Time of one call on the device, in milliseconds."""

    median: Number
    p90: Number
    """90th percentile."""
    runs: int
    """Number of calls measured."""


class GateVerdict(TypedDict):
    """A limit of a gate and whether the build meets it."""

    metric: str
    """A key of :class:`GateValues`."""
    limit: str
    """``>= 45`` or ``<= 0``; limits are inclusive."""
    value: Number | None
    """The measured value in the metric's unit; null if there is no finite number."""
    passed: bool
    on_fail: NotRequired[Literal["fail", "warn"]]
    """Whether a missed limit fails the build (the default) or only warns."""
    reason: NotRequired[str]
    """Why there is no value."""
    output: NotRequired[str]
    """Name of the output whose value it is, if there are several."""


class LaxerGate(TypedDict):
    """A gate that the config made laxer than the default."""

    metric: str
    default: str
    """The limits of the default gate: ``>= 12``."""
    limit: str | None
    """The limits in its place, and ``(only warns)``; null if there is no such gate any more."""


class TargetDetails(TypedDict, total=False):
    """Settings of the build's target that the HTML report shows."""

    minimum_os: str
    compute_precision: str
    compute_units: str
    shapes: NotRequired[str]


class InputFacts(TypedDict):
    """An input of the model."""

    name: str
    """The parameter's of ``forward()``; below it, keys are joined by dots."""
    dtype: str
    shape: list[int | None] | None
    """Null in place of a size that differs between samples."""


class MethodFacts(TypedDict):
    """A method, measured by itself on recorded inputs of the fp32 model."""

    name: str
    inputs: list[InputFacts]
    outputs: list[OutputMetrics] | list[InputFacts]
    """Against the fp32 model; names, types and shapes alone if the artifact cannot be executed."""
    calls: int
    """Number of recorded calls."""
    metrics: NotRequired[Metrics]
    stages: NotRequired[Stages]


class Measurement(TypedDict):
    """The part of a report that comes from executing the artifact."""

    artifact: Artifact
    samples: int
    """Number of evaluation samples."""
    inputs: NotRequired[list[InputFacts]]
    """Of the only method; absent if samples are conversations."""
    methods: NotRequired[list[MethodFacts]]
    """Of a model whose samples are conversations (``play()``, or several methods)."""
    metrics: Metrics
    """The artifact against the fp32 reference; all numbers are null if it could not be executed."""
    outputs: NotRequired[list[OutputMetrics]]
    """The same, output by output; empty if it could not be executed."""
    stages: Stages
    hazards: list[Hazard]
    known_issues: NotRequired[list[KnownIssue]]
    """Reported failures on Apple's runtimes that the build matches. They only warn."""
    latency_ms: LatencyMs | None
    """Null for the interpreter, whose time does not predict a device's."""


class Failure(TypedDict):
    """Why a build could not be validated."""

    stage: str
    """``load``, ``run``, ``compare``, ``score`` or ``agreement`` of a validation, or the step of
    the workflow that failed."""
    message: str
    log: str
    """Path of the log with the traceback, relative to the folder of the build."""


class Weights(TypedDict):
    """How much of the weights a recipe compresses. Scales and tables do not count."""

    compressed: Number
    """Share of the values, from 0 to 1."""
    values: NotRequired[int]
    """Number of the values. Bits per weight are those of ``weight_bytes`` over it."""
    floats: dict[str, int]
    """Number of values of the largest weights with two or more dimensions that stay in floating
    point: a step does not select them, or its options do not fit their shapes (the log of the
    conversion gives the reason)."""


class ValidationReport(Measurement):
    """``results/validation/{model}/{recipe}/{target}/{device}.json``."""

    build: Build
    device: Device
    gates: list[GateVerdict]
    status: Status
    """``fail`` if a gate whose ``on_fail`` is ``fail`` is not met, or if there is an error."""
    error: NotRequired[Failure]
    """The metrics that depend on what failed are null, and have no gates."""
    laxer_gates: NotRequired[list[LaxerGate]]
    """Absent if all gates are as strict as the defaults."""
    synthetic: NotRequired[list[Literal["evaluation", "calibration", "weights"]]]
    """What is made up: samples (:mod:`pte_foundry.models.default_samples`), because the model
    defines none, and random weights."""
    scheme: NotRequired[str | None]
    """The recipe's compression scheme."""
    sweep: NotRequired[str]
    """The sweep that the recipe is of, as the config names it."""
    weights: NotRequired[Weights]
    """Absent if the recipe compresses nothing by design."""
    target_details: NotRequired[TargetDetails]


class GateValues(TypedDict, extra_items=Number | None):
    """The values that a gate can limit, by the names in the config.

    The numbers of :class:`Metrics` (task metrics included) and these.
    """

    sqnr_db: Number | None
    cosine: Number | None
    max_abs_error: Number | None
    top1_agreement: Number | None
    equal_fraction: Number | None
    worst_sqnr_db: Number | None
    """Lowest SQNR of a sample in any output, in dB."""
    bytes: int
    """Size of the artifact in bytes."""
    delegated_fraction: Number | None
    """See :class:`Artifact`."""
    hazards: int
    """Executions of operations in which damage arises: ``count`` of all hazards but
    ``WARNINGS``."""


GATE_METRICS = tuple(GateValues.__annotations__)
"""Metrics that a gate can name for every model, besides the task metrics of the model."""
