"""The details of a build on the page: formatted text, in frames that all builds share.

A frame is ``{"title", "kind"}`` with the settings of its kind; its text "none" is shown where a
build has no content for it. A build's content by kind: "facts", pairs; "bars", label, value and
formatted value; "rows", cells under "head"; "plot", rows of "fields" for the plot's "spec".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pte_foundry.report import layer_chart, methods, outputs, program_facts, text
from pte_foundry.report.schema import SummaryRecord
from pte_foundry.validate.divergence_schema import DivergenceReport

FRAMES: tuple[dict[str, Any], ...] = (
    {
        "title": "Where the loss comes from",
        "kind": "rows",
        "note": "Quantization: the quantized PyTorch program against fp32. Lowering: the artifact "
        "against the quantized program. Both: the artifact against fp32.",
        "head": [
            "stage",
            "SQNR dB",
            "worst dB",
            "cosine",
            "max. abs. error",
            "agreement",
            "equal",
            "worst output",
        ],
        "wide": True,
    },
    methods.FRAME,
    outputs.FRAME,
    {
        "title": "Gates",
        "kind": "rows",
        "note": "Margin: by how much the value meets its limit.",
        "head": ["metric", "limit", "value", "margin", "default", "device", "verdict"],
        "none": "The config sets no gates for this build.",
        "wide": True,
    },
    {
        "title": "Hazards",
        "kind": "rows",
        "note": "Operations whose result is worse than all their inputs, and outputs that are zero "
        "or constant in all samples though the reference is not. The gate counts executions with "
        "damaged values, and lost outputs; fp16_near_overflow, fp16_integer, constant_overflow and "
        "clipped (static quantization cuts off values beyond the calibrated range) are warnings.",
        "head": ["kind", "operation or output", "PyTorch operator", "executions"],
        "none": "No infinities, nans or fp16 overflows, and no lost outputs.",
        "wide": True,
    },
    {
        "title": "Known device issues",
        "kind": "rows",
        "note": "Public reports of failures on Apple's runtimes that this program matches. They "
        "are warnings: nothing was executed on a device.",
        "head": ["effect", "operation", "PyTorch operator", "condition", "units", "OS", "source"],
        "none": "No known issue matches.",
        "wide": True,
    },
    {"title": "Size by data type", "kind": "bars", "none": "Unknown."},
    {"title": "Operations", "kind": "bars", "none": "The program has no operations."},
    {"title": "Program", "kind": "facts"},
    {
        "title": "Executed by",
        "kind": "rows",
        "head": ["device", "engine", "host", "SQNR dB", "median / p90 ms", "verdict"],
        "wide": True,
    },
    {"title": "Files and digests", "kind": "facts", "wide": True, "mono": True, "fold": True},
)

LAYERS = 60
"""Number of layers in the plot of a divergence report."""

WORST = 10
"""Number of layers in its table."""


def divergence_frames() -> tuple[dict[str, Any], ...]:
    """Returns the frames for :func:`divergence_contents`."""
    return (
        {
            "title": "Per-layer error attribution",
            "kind": "plot",
            "note": "Points: the error that a layer introduces, measured against the fp32 "
            "operators on the artifact's own inputs of that layer. Line: the accumulated error, "
            "measured against the fp32 program. Both are SQNRs over the power of the layer's fp32 "
            "result. Lower is worse; a cross is infinite noise; an exact layer has no point. The "
            f"plot shows at most the {LAYERS} layers that introduce the largest error.",
            "fields": layer_chart.FIELDS,
            "spec": layer_chart.spec(),
            "none": "All compared layers are exact.",
            "wide": True,
        },
        {
            "title": "Layers that introduce the largest error",
            "kind": "rows",
            "head": [
                "layer",
                "introduced dB",
                "accumulated dB",
                "fp32 range",
                "artifact range",
                "hazards",
            ],
            "none": "No layer introduces an error.",
            "wide": True,
        },
    )


def divergence_contents(report: DivergenceReport) -> list[list]:
    """Returns a build's content for each of :func:`divergence_frames`."""
    layers = report["layers"]  # sorted by introduced SQNR, lowest first
    drawn = sorted(layers[:LAYERS], key=lambda layer: layer["position"])
    inexact = [layer for layer in layers if text.noise(layer["introduced_sqnr_db"]) != text.EXACT]
    return [
        layer_chart.values(drawn),
        [
            [
                text.layer(layer["layer"], layer.get("method")),
                text.noise(layer["introduced_sqnr_db"]),
                text.noise(layer["accumulated_sqnr_db"]),
                text.interval(layer["reference"]),
                text.interval(layer["program"]),
                ", ".join(layer["hazards"]) or text.MISSING,
            ]
            for layer in inexact[:WORST]
        ],
    ]


def contents(build: SummaryRecord, inputs: Mapping[str, str] | None = None) -> list[list | None]:
    """Returns a build's content for each of ``FRAMES``; None for one that it does not have.

    Args:
        build: a record of the summary.
        inputs: name to sha256 of the build's inputs, from the manifest.
    """
    return [
        _losses(build),
        methods.rows(build),
        outputs.rows(build),
        _gates(build),
        _hazards(build),
        _known_issues(build),
        program_facts.sizes(build),
        program_facts.operations(build),
        program_facts.program(build),
        _devices(build),
        _digests(build, inputs or {}),
    ]


def _losses(build: SummaryRecord) -> list[list[str]]:
    stages = [
        ("quantization", build["stages"]["quantization"]),
        ("lowering", build["stages"]["lowering"]),
        ("both", build["metrics"]),
    ]
    return [
        [
            name,
            text.decibel(metrics.get("sqnr_db")),
            text.decibel(text.worst_sqnr_db(metrics)),
            text.cosine(metrics.get("cosine")),
            text.number(metrics.get("max_abs_error")),
            text.percent(metrics.get("top1_agreement")),
            text.percent(metrics.get("equal_fraction")),
            text.worst_output(metrics, build.get("outputs") or []),
        ]
        for name, metrics in stages
    ]


def _gates(build: SummaryRecord) -> list[list[str]]:
    weakened = {gate["metric"]: gate for gate in build.get("laxer_gates") or []}
    rows = []
    for gate in build["gates"]:
        value = gate.get("reason") or text.metric(gate["metric"], gate["value"])
        output = f" (output `{gate['output']}`)" if gate.get("output") else ""
        default = weakened.pop(gate["metric"], None)
        rows.append(
            [
                gate["metric"],
                gate["limit"],
                value + output,
                text.margin(gate),
                f"{default['default']}, laxer here" if default else text.MISSING,
                gate["device"],
                text.gate_status(gate),
            ]
        )
    empty = text.MISSING
    rows += [
        [metric, "removed", empty, empty, gate["default"], empty, empty]
        for metric, gate in weakened.items()
        if gate["limit"] is None
    ]
    return rows


def _hazards(build: SummaryRecord) -> list[list[str]]:
    return [
        [
            hazard["kind"],
            f"output `{hazard['output']}`" if hazard.get("output") else hazard["op"],
            ": ".join(
                filter(None, (hazard["torch_source"], hazard.get("constant"), hazard.get("cause")))
            )
            or text.MISSING,
            str(hazard["count"]),
        ]
        for hazard in build["hazards"]
    ]


def _known_issues(build: SummaryRecord) -> list[list[str]]:
    return [
        [
            issue["effect"],
            f"{issue['op']} × {issue['count']}" if issue["count"] > 1 else issue["op"],
            issue["torch_source"] or text.MISSING,
            issue["condition"],
            issue["unit"],
            issue["os"],
            issue["source"],
        ]
        for issue in build.get("known_issues") or []
    ]


def _devices(build: SummaryRecord) -> list[list[str]]:
    rows = []
    for device in build["devices"]:
        latency = device["latency_ms"]
        timing = text.MISSING
        if latency:
            timing = f"{text.number(latency['median'])} / {text.number(latency['p90'])}"
        sqnr = text.decibel(device["metrics"]["sqnr_db"])
        names = device["name"], device["engine"], device["host"]
        rows.append([*names, sqnr, timing, device["status"]])
    return rows


def _digests(build: SummaryRecord, inputs: Mapping[str, str]) -> list[list[str]]:
    return [
        ["artifact", build["paths"]["pte"]],
        ["sha256", build["sha256"]],
        *[[f"report, {device}", path] for device, path in build["paths"]["validation"].items()],
        *[[name, digest] for name, digest in inputs.items()],
    ]
