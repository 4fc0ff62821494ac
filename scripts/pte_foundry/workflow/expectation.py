"""What a job is expected to take: as long as in an earlier run, or as such jobs usually take.

The logger forecasts the end of a run from it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from pte_foundry.workflow.stages import STAGES

AROUND = 1.0
"""Seconds that a job takes beside its step: to start it, and what Snakemake does about it."""

_USUAL = 0.5  # seconds of a job that is no stage's


def read(folder: Path) -> dict[str, float]:
    """Reads the seconds of steps from benchmark files.

    Args:
        folder: the folder ``benchmarks``, which need not exist.

    Returns:
        The seconds by path, e.g. ``{"benchmarks/lower/minilm/fp16/….tsv": 2.4}``. A file that is
        damaged is left out.
    """
    found = {}
    for path in sorted(folder.rglob("*.tsv")):
        try:
            header, row = path.read_text(encoding="utf-8").splitlines()[:2]
            seconds = float(dict(zip(header.split("\t"), row.split("\t"), strict=True))["s"])
        except (OSError, ValueError, KeyError):
            continue
        if 0 <= seconds < math.inf:
            found[path.as_posix()] = seconds
    return found


class Expectation:
    """What jobs are expected to take, given those of earlier runs.

    Args:
        earlier: as from :func:`read`.
    """

    def __init__(self, earlier: Mapping[str, float]) -> None:
        self._earlier = earlier
        self._similar: dict[tuple[str, str], list[float]] = defaultdict(list)
        for path, seconds in earlier.items():
            folder, model = _place(path)
            for key in {(folder, model), (folder, "")}:
                self._similar[key].append(seconds)

    def seconds(self, rule: str, benchmark: str | None) -> float:
        """Returns what a job is expected to take, in seconds.

        Args:
            rule: the name of its rule.
            benchmark: the path of its benchmark file, relative, or None if it has none.
        """
        return AROUND + self._step(rule, benchmark)

    def _step(self, rule: str, benchmark: str | None) -> float:
        if benchmark:
            if benchmark in self._earlier:
                return self._earlier[benchmark]
            folder, model = _place(benchmark)
            # Those of the model first: it decides more than the recipe.
            for key in ((folder, model), (folder, "")):
                if key in self._similar:
                    return fmean(self._similar[key])
        # In a module with a prefix, its rules are called prefix_name.
        stage = STAGES.get(rule.rpartition("_")[-1])
        return stage.seconds if stage else _USUAL


def _place(path: str) -> tuple[str, str]:
    """Returns the folder and the model of a benchmark file, ``…/benchmarks/FOLDER/MODEL…``."""
    parts = Path(path).with_suffix("").parts
    if "benchmarks" not in parts[:-2]:
        return "", ""
    at = len(parts) - parts[::-1].index("benchmarks")
    return parts[at], parts[at + 1]
