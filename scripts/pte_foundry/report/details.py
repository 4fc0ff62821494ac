"""What the page shows of one build when it is opened: ready text, in a frame all builds share.

A frame is ``{"title", "kind"}`` with what the kind needs; "none" is said where there is nothing to
show. Kinds, and what a build adds: "facts", pairs; "bars", label, value and its text; "rows", cells
under "head"; "plot", the data of its "spec", a list for each of its "fields".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pte_foundry.report import charts, text

FRAMES: tuple[dict[str, Any], ...] = (
    {
        "title": "Where the loss comes from",
        "kind": "rows",
        "note": "Quantization: the compressed PyTorch program against fp32. Lowering: the shipped "
        "bytes against that program. Both: the shipped bytes against fp32.",
        "head": ["stage", "SQNR dB", "worst dB", "cosine", "largest error", "agreement"],
        "wide": True,
    },
    {
        "title": "Gates",
        "kind": "rows",
        "head": ["metric", "limit", "value", "device", "verdict"],
        "none": "No gates are set.",
    },
    {
        "title": "Hazards",
        "kind": "rows",
        "head": ["kind", "operation", "from", "runs"],
        "none": "No infinities, nans or fp16 overflows.",
    },
    {"title": "Size by data type", "kind": "bars", "none": "Not known."},
    {"title": "Operations", "kind": "bars", "none": "The program has none."},
    {"title": "Program", "kind": "facts"},
    {
        "title": "Executed by",
        "kind": "rows",
        "head": ["device", "engine", "host", "SQNR dB", "median / p90 ms", "verdict"],
        "wide": True,
    },
    {"title": "Files and digests", "kind": "facts", "wide": True, "mono": True},
)

# How many layers a divergence report shows in its plot and in its table.
LAYERS = 60
WORST = 10


def divergence_frames() -> tuple[dict[str, Any], ...]:
    """The frames of what :func:`divergence_contents` gives."""
    return (
        {
            "title": "In which layers the error arises",
            "kind": "plot",
            "note": "Points: what a layer introduces by itself: the artifact against what fp32 "
            "computes from the artifact's own inputs of that layer. Line: what has accumulated up "
            "to it: the artifact against fp32. Both over the power of the layer's fp32 result; "
            "down is worse, a cross is infinite. An exact layer has no point. Of many layers, the "
            f"{LAYERS} that introduce most.",
            "fields": charts.LAYER_FIELDS,
            "spec": charts.layers(),
            "none": "All layers that could be compared are exact.",
            "wide": True,
        },
        {
            "title": "Layers that introduce most",
            "kind": "rows",
            "head": ["layer", "introduced dB", "accumulated dB", "fp32 range", "range", "hazards"],
            "none": "No layer introduces an error.",
            "wide": True,
        },
    )


def divergence_contents(report: Mapping[str, Any]) -> list[list]:
    """What a build puts into ``divergence_frames``.

    Args:
        report: what ``pte_foundry.steps.diverge`` wrote.
    """
    layers = report["layers"]  # the one that introduces most first
    drawn = sorted(layers[:LAYERS], key=lambda layer: layer["position"])
    inexact = [layer for layer in layers if text.noise(layer["introduced_sqnr_db"]) != text.EXACT]
    return [
        charts.layer_values(drawn),
        [
            [
                text.layer(layer["layer"]),
                text.noise(layer["introduced_sqnr_db"]),
                text.noise(layer["accumulated_sqnr_db"]),
                text.interval(layer["reference"]),
                text.interval(layer["program"]),
                ", ".join(layer["hazards"]) or text.MISSING,
            ]
            for layer in inexact[:WORST]
        ],
    ]


def contents(build: Mapping[str, Any], inputs: Mapping[str, str] | None = None) -> list[list]:
    """What a build puts into each of ``FRAMES``.

    Args:
        build: a record of the summary.
        inputs: the digests of what it was made from, by name, from the manifest.
    """
    return [
        _losses(build),
        _gates(build),
        _hazards(build),
        _sizes(build),
        _operations(build),
        _program(build),
        _devices(build),
        _digests(build, inputs or {}),
    ]


def _losses(build: Mapping[str, Any]) -> list[list[str]]:
    stages = [
        ("quantization", build["stages"].get("quantization")),
        ("lowering", build["stages"].get("lowering")),
        ("both", build["metrics"]),
    ]
    return [
        [
            name,
            text.decibel(metrics.get("sqnr_db")),
            text.decibel((metrics.get("worst") or {}).get("sqnr_db")),
            text.MISSING if metrics.get("cosine") is None else f"{metrics['cosine']:.6f}",
            text.number(metrics.get("max_abs_error")),
            text.percent(metrics.get("top1_agreement")),
        ]
        for name, metrics in stages
        if metrics
    ]


def _gates(build: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for gate in build["gates"]:
        verdict = "pass" if gate["passed"] else "warn" if gate.get("on_fail") == "warn" else "fail"
        value = gate.get("reason") or text.metric(gate["metric"], gate["value"])
        rows.append([gate["metric"], gate["limit"], value, gate["device"], verdict])
    return rows


def _hazards(build: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            hazard["kind"],
            hazard["op"],
            hazard.get("torch_source") or text.MISSING,
            str(hazard["count"]),
        ]
        for hazard in build["hazards"]
    ]


def _sizes(build: Mapping[str, Any]) -> list[list[Any]]:
    weights = build["artifact"].get("weight_bytes") or {}
    sizes = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    rest = build["bytes"] - sum(weights.values())
    if weights and rest > 0:
        sizes.append(("program and the rest", rest))
    return [[name, count, text.size(count)] for name, count in sizes]


def _operations(build: Mapping[str, Any]) -> list[list[Any]]:
    counts = build["artifact"].get("ops") or {}
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [[name, count, str(count)] for name, count in ordered]


def _program(build: Mapping[str, Any]) -> list[list[str]]:
    artifact, details = build["artifact"], build["target_details"]
    facts = [
        ("scheme", build["scheme"]),
        *((text.label(key), value) for key, value in sorted(details.items())),
        ("specification version", artifact.get("specification_version")),
        ("delegated to Core ML", text.percent(artifact.get("delegated_fraction"))),
        ("operations", sum((artifact.get("ops") or {}).values())),
        ("outside of Core ML", artifact.get("kernels")),
        ("states", artifact.get("states") or "none"),
        ("evaluation samples", build["samples"]),
    ]
    return [[key, _listed(value)] for key, value in facts if value not in (None, "", {}, [])]


def _listed(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {part}" for key, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _devices(build: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for device in build["devices"]:
        latency = device["latency_ms"]
        timing = text.MISSING
        if latency:
            timing = f"{text.number(latency['median'])} / {text.number(latency['p90'])}"
        sqnr = text.decibel(device["metrics"].get("sqnr_db"))
        rows.append(
            [device["name"], device["engine"], device["host"], sqnr, timing, device["status"]]
        )
    return rows


def _digests(build: Mapping[str, Any], inputs: Mapping[str, str]) -> list[list[str]]:
    return [
        ["artifact", build["paths"]["pte"]],
        ["sha256", build["sha256"]],
        *[[f"report, {device}", path] for device, path in build["paths"]["validation"].items()],
        *[[name, digest] for name, digest in inputs.items()],
    ]
