"""What a step costs: the files ``benchmarks/….tsv``.

Snakemake's own ``benchmark:`` watches the processes below a job's shell. It looks now and then, so
that it misses short peaks, and it does not see a step that a warm process runs
(:mod:`pte_foundry.job.fork_server`). The step itself can ask the system.
"""

import resource
import sys
from pathlib import Path

from pte_foundry.files import write_bytes

# ru_maxrss is in KiB on Linux and in bytes on macOS (getrusage(2)).
_MEBIBYTE = 2**20 if sys.platform == "darwin" else 2**10


def write(path: Path, seconds: float) -> None:
    """Writes one row: wall time and CPU time in seconds, peak memory in MiB.

    Columns have Snakemake's names. ``max_rss`` counts the libraries that are shared with a warm
    process as if they were the step's own.
    """
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    peak = max(usage.ru_maxrss for usage in used) / _MEBIBYTE
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in used)
    table = f"s\tmax_rss\tcpu_time\n{seconds:.2f}\t{peak:.1f}\t{cpu:.2f}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, table.encode())
