"""Run time and peak memory of a step: the files ``benchmarks/….tsv``.

Snakemake's own ``benchmark:`` samples the processes below a job's shell. So it misses short peaks,
and steps that run in a fork of a server (:mod:`pte_foundry.job.fork_server`). The system has exact
values for the step itself.
"""

import resource
import sys
from pathlib import Path

from pte_foundry.files import write_bytes

# ru_maxrss is in KiB on Linux and in bytes on macOS (getrusage(2)).
_MEBIBYTE = 2**20 if sys.platform == "darwin" else 2**10

began: float | None = None
"""When the step was started, by the monotonic clock, if it waited for a fork server since then."""


def write(path: Path, seconds: float) -> None:
    """Writes one row: wall time and CPU time in seconds, peak memory in MiB.

    Columns have Snakemake's names. ``max_rss`` includes the libraries whose memory a forked step
    shares with the fork server.
    """
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    peak = max(usage.ru_maxrss for usage in used) / _MEBIBYTE
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in used)
    table = f"s\tmax_rss\tcpu_time\n{seconds:.2f}\t{peak:.1f}\t{cpu:.2f}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, table.encode())
