"""The peaks of memory that a build's jobs measured against what their rules declare."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

from pte_foundry.workflow.memory import FLOOR, NEEDS, needed, weights_mb

TITLE = "Memory"
HOW = (
    "Peak memory of every job of the build in MiB, as it wrote it to benchmarks/, against the "
    "mem_mb that its rule declares for a model of this size. within: of no job of the step is the "
    f"peak higher than declared, or less than half of it; below {FLOOR} MiB the libraries decide, "
    "so the half is of that. weights_mb is the size of the exported program, whose weights are in "
    "fp32, and peak_per_weights the highest peak as a multiple of it."
)
# Folders of benchmarks that are not named as their rule.
_RULES = {"validation": "validate", "divergence": "diverge"}


def stages(results: Path) -> list[dict[str, Any]]:
    """One row for each step and model that the build below ``results`` has run.

    Steps that need less for compressed weights have a row for those as well.
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
    """What is known about the jobs of one step on one model, all in MiB."""
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
    """The peak in MiB that a job wrote."""
    with file.open(encoding="utf-8", newline="") as opened:
        (measured,) = csv.DictReader(opened, delimiter="\t")
    return float(measured["max_rss"])
