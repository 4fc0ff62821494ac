"""The peak memory of a build's jobs against what their rules request."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pte_foundry.config.config import load
from pte_foundry.workflow.build_options import build_options
from pte_foundry.workflow.jobs import Jobs
from pte_foundry.workflow.memory import case, needed, weights_mb
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


def jobs_of(folder: Path) -> Jobs:
    """Returns the jobs of the last build in a folder."""
    given = iter(build_options(folder))
    files = [folder / "config/config.yaml"]
    if "--configfile" in given:
        for option in given:
            if option.startswith("--"):
                break
            files.append(folder / option)
    return Jobs(load(files, folder))


def declared(jobs: Jobs, results: Path, step: str, model: str, *of: str) -> tuple[str, int]:
    """Returns what a job needs, as ``memory.NEEDS`` calls it, and the MiB that its rule requests.

    Args:
        jobs: the jobs of the build.
        results: its results folder.
        step: the job's step.
        model: its model; empty if it has none.
        of: its recipe and its target, as far as it has them.
    """
    recipe, target, *_ = *of, "", ""
    file = results / "export" / f"{model}.pt2"
    if step == "pte":
        file = results / "lower" / model / recipe / f"{jobs.lowering_key(target)}.pte"
    name = case(jobs.config, step, recipe, target)
    return name, needed(name, weights_mb([file]))


def stages(results: Path) -> list[dict[str, Any]]:
    """Returns a row for each step and model of the build with the folder ``results``.

    Steps whose need depends on more than the model's size have a row for each case.
    """
    folder = results.parent / "benchmarks"
    files = sorted(folder.rglob("*.tsv"))
    jobs = jobs_of(results.parent) if files else None
    found: dict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)
    for file in files:
        step, model, *of = file.relative_to(folder).with_suffix("").parts
        name, request = declared(jobs, results, _RULES.get(step, step), model, *of)
        found[name, model].append((peak(file), request))
    return rows(results, found, FLOOR)


def rows(
    results: Path, found: dict[tuple[str, str], list[tuple[float, int]]], floor: float
) -> list[dict[str, Any]]:
    """Returns the rows of peaks and requests in MiB, which are found by step and model."""
    return [
        row(name, model, weights_mb([results / "export" / f"{model}.pt2"]), measured, floor)
        for (name, model), measured in sorted(found.items())
    ]


def row(
    name: str, model: str, weights: float, measured: Sequence[tuple[float, int]], floor: float
) -> dict[str, Any]:
    """Returns the row of one step and one model, in MiB.

    Args:
        name: the step's need.
        model: the model.
        weights: its weights.
        measured: of each job, its peak and its request.
        floor: a job may request twice as much, however little it takes.
    """
    peaks, requests = zip(*measured, strict=True)
    return {
        "step": name,
        "model": model,
        "jobs": len(peaks),
        "weights_mb": weights,
        "declared_mb": max(requests),
        "lowest_peak_mb": min(peaks),
        "highest_peak_mb": max(peaks),
        "within": all(taken <= asked <= 2 * max(taken, floor) for taken, asked in measured),
        **({"peak_per_weights": max(peaks) / weights} if weights else {}),
    }


def peak(file: Path) -> float:
    """Returns the peak in MiB from the benchmark file of a job."""
    with file.open(encoding="utf-8", newline="") as opened:
        (measured,) = csv.DictReader(opened, delimiter="\t")
    return float(measured["max_rss"])
