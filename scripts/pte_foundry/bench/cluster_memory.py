"""The peak memory of Slurm jobs as the kernel counts it, against what they asked for.

``python -m pte_foundry.bench.cluster_memory``, on a node of a cluster with control groups (version
1), while a build runs; ends with Ctrl-C. For each rule alone, give each rule a group of its own:
``snakemake --profile profiles/slurm --groups convert=convert evaluate=evaluate …``.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

CONTROLLED = Path("/sys/fs/cgroup/memory")
_JOB = re.compile(r"job_(\d+)$")
_MEBIBYTE = 2**20


def jobs(root: Path = CONTROLLED) -> Iterator[tuple[str, float, float]]:
    """Yields number, memory and limit of each job that runs, in MiB.

    Memory of files does not count: the kernel takes it back before it ends a job.
    """
    for folder in root.glob("**/slurm*/uid_*/job_*"):
        try:
            lines = (folder / "memory.stat").read_text().splitlines()
            limit = int((folder / "memory.limit_in_bytes").read_text())
        except OSError:
            continue  # it has ended
        used = dict(line.split() for line in lines)
        held = int(used["total_rss"]) + int(used.get("total_shmem", 0))
        yield _JOB.search(folder.name)[1], held / _MEBIBYTE, limit / _MEBIBYTE


def within(peak: float, limit: float) -> bool:
    """Whether a job asked for enough memory, and for less than twice of what it took."""
    return peak <= limit <= 2 * peak


def main() -> None:
    """Prints a line for each job after its end."""
    peaks: dict[str, tuple[float, float]] = {}
    print("job  peak_mb  asked_mb  within a factor of two")
    while True:
        running = set()
        for number, held, limit in jobs():
            running.add(number)
            peaks[number] = max(held, peaks.get(number, (0.0, 0.0))[0]), limit
        for number in peaks.keys() - running:
            peak, limit = peaks.pop(number)
            print(f"{number}  {peak:.0f}  {limit:.0f}  {within(peak, limit)}", flush=True)
        time.sleep(0.05)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
