"""Steps without the seconds that torch, torchao, executorch and coremltools take to import.

Most of what a small step costs is the import of these libraries. While Snakemake works on one
machine, two fork servers have them loaded, one for steps that build and one for steps that execute
(:data:`KINDS`). A step that Snakemake starts (``python -P -m pte_foundry.steps.<step>``, a few
hundredths of a second) sends its arguments, folder, environment and open files to the server of its
kind, which forks. The child runs the step and exits. Steps cannot affect each other, because each
has its own child. The process that Snakemake started waits as a proxy for the child: it exits with
the child's exit code, and if it is killed, the child is killed too.

On a cluster, a group of jobs has one server for both kinds, which starts and ends within its job.

Nothing depends on the servers. Without one (for a job alone on a cluster, in containers, on macOS,
where forking is not safe, or after a server died), or if a server declines a request, the step does
the same work in its own process. The servers write why to ``logs/fork_server/<kind>.log``. The
environment variable ``FOUNDRY_FORK_SERVER=off`` switches them off.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The folder with one socket for each kind, or OFF.
VARIABLE = "FOUNDRY_FORK_SERVER"
OFF = "off"

# Steps that compute the bytes of artifacts, with all that lowers them; and steps that run programs,
# which need a third of the memory. Both in the environment of pte_foundry.job.deterministic_env.
BUILDING, EXECUTING = "building", "executing"
KINDS = (BUILDING, EXECUTING)


@contextmanager
def socket_address(folder: Path, kind: str) -> Iterator[str]:
    """Yields an address of the socket of a kind in ``folder``, for ``bind`` and ``connect``.

    AF_UNIX takes paths of at most 107 bytes (unix(7)), and folders for temporary files may have
    longer ones. So the address goes through an open descriptor of the folder.

    Raises OSError if the folder does not exist or cannot be read.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{kind}"
    finally:
        os.close(handle)
