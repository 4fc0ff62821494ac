"""The peak memory of a build's jobs against what their rules request."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

from pte_foundry.workflow.memory import NEEDS, needed, weights_mb
from pte_foundry.workflow.stages import FLOOR

TITLE = "Memory"
HOW = (
    "Peak memory of every job of the build in MiB, from benchmarks/, against the mem_mb that its "
    "rule requests for a model of this size. within: no job of the step has a peak above the "
    f"request, or below half of it (half of {FLOOR} MiB for jobs that the libraries dominate). "
    "weights_mb: size of the exported program, which has fp32 weights. peak_per_weights: the "
    "highest peak as a multiple of weights_mb."
)
# Folders of benchmarks that are not named as their rule.
_RULES = {"validation": "validate", "divergence": "diverge"}


def stages(results: Path) -> list[dict[str, Any]]:
    """Returns a row for each step and model of the build with the folder ``results``.

    Steps that need less memory for compressed weights have a second row for those.
    """
    peaks: dict[tuple[str, str], list[float]] = defaultdict(list)
    folder = results.parent / "benchmarks"
    for file in sorted(folder.rglob("*.tsv")):
        step, model, *of = file.relative_to(folder).with_suffix("").parts
        name = _RULES.get(step, step)
        # A recipe that compresses nothing has no program of its own.
        if of and (results / "convert" / model / f"{of[0]}.pt2").is_file():
            name = case if (case := f"{name}, compressed") in NEEDS else name
        peaks[name, model].append(peak(file))
    return [
        row(name, model, weights_mb([results / "export" / f"{model}.pt2"]), found)
        for (name, model), found in sorted(peaks.items())
    ]


def row(name: str, model: str, weights: float, peaks: list[float]) -> dict[str, Any]:
    """Returns the row of one step and one model; ``weights``, ``peaks`` and the row are in MiB."""
    declared = needed(name, weights)
    lowest, highest = min(peaks), max(peaks)
    return {
        "step": name,
        "model": model,
        "jobs": len(peaks),
        "weights_mb": weights,
        "declared_mb": declared,
        "lowest_peak_mb": lowest,
        "highest_peak_mb": highest,
        "within": highest <= declared <= 2 * max(lowest, FLOOR),
        **({"peak_per_weights": highest / weights} if weights else {}),
    }


def peak(file: Path) -> float:
    """Returns the peak in MiB from the benchmark file of a job."""
    with file.open(encoding="utf-8", newline="") as opened:
        (measured,) = csv.DictReader(opened, delimiter="\t")
    return float(measured["max_rss"])
