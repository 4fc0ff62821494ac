"""The benchmark's result as one JSON document."""

import os
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from pte_foundry.bench.measure import Comparison

FORMAT = 1
LIBRARIES = ("torch", "torchao", "executorch", "coremltools", "scikit-learn", "numpy")


def machine() -> dict[str, Any]:
    """What the times depend on besides the code.

    ``load_average`` tells whether others used it: waiting processes over the last minute.
    """
    import torch

    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "torch_threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
    }


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def benchmark(
    title: str, how: str, comparisons: Iterable[Comparison], skipped: str | None = None
) -> dict[str, Any]:
    """The entry of one benchmark; ``skipped`` says what was left out and how to have it."""
    return {
        "title": title,
        "how": how,
        "comparisons": [comparison.record() for comparison in comparisons],
        "skipped": skipped,
    }


def record(
    benchmarks: list[dict[str, Any]], measured_on: Mapping[str, Any], used: Mapping[str, str]
) -> dict[str, Any]:
    """The whole document.

    ``benchmarks`` holds, of each comparison, every repetition's wall time in seconds, both
    medians, and ``ratios``: baseline over ours, so that above 1 ours is better. What has no
    counterpart has ``baseline`` null and no ratios.
    """
    return {
        "format": FORMAT,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": dict(measured_on),
        "versions": dict(used),
        "benchmarks": benchmarks,
    }


def _processor() -> str:
    """The processor's name, where Linux tells it; else what Python knows."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = (line.partition(":")[2].strip() for line in file if "model name" in line)
            return next(names, platform.processor())
    except OSError:
        return platform.processor()
