"""The outputs of a build on the page: a row of metrics for each, if there are several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pte_foundry.report import text
from pte_foundry.report.schema import SummaryRecord
from pte_foundry.validate.metrics_schema import OutputMetrics

FRAME: dict[str, Any] = {
    "title": "Outputs",
    "kind": "rows",
    "note": "Floating-point outputs have an SQNR, integer and boolean ones a share of equal "
    "values. Quantization and lowering: the loss of each stage, in dB or as a share.",
    "head": [
        "output",
        "type",
        "SQNR dB",
        "worst dB",
        "worst sample",
        "cosine",
        "max. abs. error",
        "equal",
        "agreement",
        "quantization",
        "lowering",
    ],
    "none": "One output: its numbers are those of the build.",
    "wide": True,
}


def rows(build: SummaryRecord) -> list[list[str]]:
    """Returns a build's content for ``FRAME``: a row for each output, if there are several."""
    outputs = build.get("outputs") or []
    return [_output(output) for output in outputs] if len(outputs) > 1 else []


def _output(output: OutputMetrics) -> list[str]:
    worst, stages = output.get("worst") or {}, output.get("stages") or {}
    losses = [stages.get(stage) or {} for stage in ("quantization", "lowering")]
    return [
        output["name"],
        _type(output),
        text.decibel(output["sqnr_db"]) if "problem" not in output else output["problem"],
        text.decibel(worst.get("sqnr_db")),
        str(worst.get("sample", text.MISSING)),
        text.cosine(output["cosine"]),
        text.number(output["max_abs_error"]),
        text.percent(output.get("equal_fraction")),
        text.percent(output.get("top1_agreement")),
        *(_loss(loss) for loss in losses),
    ]


def _type(output: OutputMetrics) -> str:
    """``float32 [1, 10]``, and whether the reference is constant."""
    sizes = output.get("shape")
    shape = "" if sizes is None else f"[{', '.join('n' if n is None else str(n) for n in sizes)}]"
    constant = "constant" if output.get("constant") else ""
    return " ".join(filter(None, (output.get("dtype"), shape, constant))) or text.MISSING


def _loss(loss: Mapping[str, float | None]) -> str:
    share = loss.get("equal_fraction")
    return text.decibel(loss.get("sqnr_db")) if share is None else text.percent(share)
