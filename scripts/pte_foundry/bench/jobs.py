"""A job's fixed cost: a step forked from a preloaded process against one that imports all."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from pte_foundry.bench.empty_step import LOADED_ALREADY, LOADS
from pte_foundry.bench.measure import Comparison, Side, side_by_side
from pte_foundry.job.fork_server import KINDS, OFF, VARIABLE
from pte_foundry.lock import LIBRARY

TITLE = "A job's fixed cost"
HOW = (
    "Seconds from the start to the end of a step that imports the libraries of its kind and does "
    "nothing else, alternately in a fork of a preloaded process and in a process of its own "
    f"({VARIABLE}={OFF}), with the log file that every step has. building: steps that compute the "
    "bytes of artifacts, such as lowering; executing: steps that run programs, such as "
    "validation. once_a_build_s: the first step, for which the fork server imports the libraries."
)
ROUNDS = 5
# Starts the fork servers, prints the folder of their sockets, and ends when its input ends.
HOLDER = """
import os, sys
from pathlib import Path
from pte_foundry.job.fork_server import VARIABLE
from pte_foundry.job.fork_server.start import start
start([], Path("logs/fork_server"))
print(os.environ.get(VARIABLE, ""), flush=True)
sys.stdin.read()
"""


def comparisons() -> Iterator[Comparison]:
    """Yields one for each kind of step; none where there are no fork servers."""
    with tempfile.TemporaryDirectory() as folder, _fork_servers(Path(folder)) as sockets:
        if not sockets:
            return
        for kind in KINDS:
            forked, alone = (partial(_step, kind, Path(folder), value) for value in (sockets, OFF))
            began = time.perf_counter()
            forked()
            once = time.perf_counter() - began
            ours, theirs, *printed = side_by_side(forked, alone, ROUNDS)
            if printed != [LOADED_ALREADY, LOADS]:
                raise RuntimeError(f"{kind}: the steps were not run as intended: {printed}")
            yield Comparison(
                kind,
                Side("fork of a preloaded process", ours),
                Side("process of its own", theirs),
                {"once_a_build_s": once},
            )


@contextmanager
def _fork_servers(folder: Path) -> Iterator[str]:
    """Runs fork servers; yields the folder of their sockets, or "" where there are none."""
    environment = {k: v for k, v in os.environ.items() if k != VARIABLE}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(LIBRARY.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:  # closes its input at the end, and waits
        yield holder.stdout.readline().strip()


def _step(kind: str, folder: Path, sockets: str) -> str:
    """Runs the step; returns the first line of its log."""
    options = ["--kind", kind, "--log", "step.log"]
    command = [sys.executable, "-P", "-m", "pte_foundry.bench.empty_step", *options]
    environment = os.environ | {"PYTHONPATH": str(LIBRARY.parent), VARIABLE: sockets}
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return (folder / "step.log").read_text(encoding="utf-8").splitlines()[0]
