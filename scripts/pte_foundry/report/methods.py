"""The methods of a build on the page, if its samples are conversations."""

from __future__ import annotations

from typing import Any

from pte_foundry.report import text
from pte_foundry.report.schema import SummaryRecord

FRAME: dict[str, Any] = {
    "title": "Methods",
    "kind": "rows",
    "note": "Each method by itself, on inputs that the fp32 model had: the first calls of the "
    "first samples. Quantization and lowering: the loss of each stage.",
    "head": ["method", "calls", "SQNR dB", "worst output", "quantization", "lowering"],
    "none": "Unknown.",
    "wide": True,
}


def of(build: SummaryRecord) -> list[dict[str, Any]]:
    """Returns the methods of a build: ``name``, ``inputs``, ``outputs``.

    The only method of a build without conversations has no name to show.
    """
    only = {"name": "", "inputs": build.get("inputs") or [], "outputs": build.get("outputs") or []}
    return build.get("methods") or [only]


def rows(build: SummaryRecord) -> list[list[str]] | None:
    """Returns a build's content for ``FRAME``; None without conversations."""
    found = build.get("methods")
    if not found:
        return None
    return [
        [
            method["name"],
            str(method["calls"]),
            text.decibel(method["metrics"]["sqnr_db"]),
            text.worst_output(method["metrics"], method["outputs"]),
            *(text.decibel(stage["sqnr_db"]) for stage in _stages(method)),
        ]
        for method in found
        if "metrics" in method
    ]


def _stages(method: dict[str, Any]) -> list[dict[str, Any]]:
    return [method["stages"][stage] for stage in ("quantization", "lowering")]
