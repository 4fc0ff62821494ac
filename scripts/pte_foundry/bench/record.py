"""The results of all benchmarks as one JSON document."""

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
    """Returns what the times depend on besides the code.

    ``load_average``: runnable processes over the last minute, which shows other load.
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
    """Returns the versions of Python and of the libraries that are measured."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def benchmark(
    title: str, how: str, comparisons: Iterable[Comparison], skipped: str | None = None
) -> dict[str, Any]:
    """Returns the entry of one benchmark; ``skipped``: what was left out, and how to get it."""
    return {
        "title": title,
        "how": how,
        "comparisons": [comparison.record() for comparison in comparisons],
        "skipped": skipped,
    }


def record(
    benchmarks: list[dict[str, Any]], measured_on: Mapping[str, Any], used: Mapping[str, str]
) -> dict[str, Any]:
    """Returns the document.

    ``benchmarks`` contains for each comparison the wall time of every repetition in seconds, both
    medians, and ``ratios``: baseline / ours, so above 1 ours is better. Without a baseline,
    ``baseline`` is null and there are no ratios.
    """
    return {
        "format": FORMAT,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": dict(measured_on),
        "versions": dict(used),
        "benchmarks": benchmarks,
    }


def _processor() -> str:
    """The name of the processor, from Linux if possible, else from Python."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = (line.partition(":")[2].strip() for line in file if "model name" in line)
            return next(names, platform.processor())
    except OSError:
        return platform.processor()
