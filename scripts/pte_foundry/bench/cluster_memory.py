"""Measures the memory of a build's steps on a node of a cluster, as its scheduler counts it.

Run it on a node whose control groups (version 1) Slurm uses, in the project's folder, while
``snakemake --profile profiles/slurm`` builds; Ctrl-C ends it. Writes a record like ``make bench``.
"""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from pte_foundry.bench import job_memory, record, show
from pte_foundry.files import write_json
from pte_foundry.job import command
from pte_foundry.workflow.memory import nested
from pte_foundry.workflow.resume import step_of

TITLE = "Memory on a cluster"
HOW = (
    "Peak memory in MiB of a Slurm job's control group while a step runs in it, without the memory "
    "of files, which the kernel takes back before it ends a job: the step, the Snakemakes around "
    "it, and the fork server of its group. Against what the step's rule requests on a cluster. "
    "within: no job of the step has a peak above the request, or below half of it. A group has "
    "what its largest step requests, and its fork server keeps what larger steps have loaded. "
    "Whether the request of a small step like pte suffices, tells a job that has only this step."
)
CONTROLLED = Path("/sys/fs/cgroup/memory")
_MEBIBYTE = 2**20
_INTERVAL = 0.05  # seconds

Step = tuple[str, ...]
"""A step and what it is for: model, recipe and so on."""


class Node:
    """The jobs that Slurm runs on this machine.

    Attributes:
        peaks: the most MiB that a job held while a step ran in it, by step.
    """

    def __init__(self, controlled: Path = CONTROLLED, processes: Path = Path("/proc")) -> None:
        self.peaks: dict[Step, float] = {}
        self._controlled = controlled
        self._processes = processes
        self._steps: dict[str, Step] = {}  # by process, of those seen at the last look

    def look(self) -> None:
        """Reads what all jobs hold now."""
        seen = {}
        for folder in self._controlled.glob("**/slurm*/uid_*/job_*"):
            try:
                lines = (folder / "memory.stat").read_text().splitlines()
            except OSError:
                continue  # it has ended
            used = dict(line.split() for line in lines)
            held = (int(used["total_rss"]) + int(used.get("total_shmem", 0))) / _MEBIBYTE
            for number, step in self._running(folder):
                seen[number] = step
                self.peaks[step] = max(held, self.peaks.get(step, 0.0))
        self._steps = seen

    def _running(self, job: Path) -> Iterator[tuple[str, Step]]:
        """Yields the processes of a job that execute steps."""
        for file in job.rglob("cgroup.procs"):
            try:
                numbers = file.read_text().split()
            except OSError:
                continue
            for number in numbers:
                if step := self._steps.get(number) or self._step(number):
                    yield number, step

    def _step(self, number: str) -> Step | None:
        try:
            line = (self._processes / number / "cmdline").read_bytes()
        except OSError:
            return None
        words = line.decode(errors="replace").split("\0")
        if not (step := step_of(words)):
            return None
        log = Path(words[words.index("--log") + 1]).with_suffix("")
        return step, *log.parts[2:]


def stages(peaks: dict[Step, float], results: Path) -> list[dict[str, Any]]:
    """Returns a row for each step and model that was seen, as in ``job_memory``."""
    jobs = job_memory.jobs_of(results.parent.absolute())
    around = nested(len(jobs.config.builds))
    found: dict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)
    for (step, *of), peak in peaks.items():
        model, *rest = of or [""]
        name, request = job_memory.declared(jobs, results, step, model, *rest)
        found[name, model].append((peak, request + around))
    return job_memory.rows(results, found, floor=0)


def main(argv: list[str] | None = None) -> int:
    """Measures until it is interrupted, then writes the record and prints the table."""
    parser = command.parser(__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"), help="of the build")
    parser.add_argument("--output", type=Path, required=True, help="the record, .json")
    arguments = parser.parse_args(argv)
    node, machine = Node(), record.machine()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
    try:
        while True:
            node.look()
            time.sleep(_INTERVAL)
    except KeyboardInterrupt:
        pass
    entry = record.benchmark(TITLE, HOW, []) | {"stages": stages(node.peaks, arguments.results)}
    measured = record.record([entry], machine, record.versions())
    write_json(arguments.output, measured)
    show.table(measured, Console(highlight=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
