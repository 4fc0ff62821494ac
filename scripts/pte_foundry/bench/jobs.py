"""A job's fixed cost: a step in a fork of a fork server, and one that loads its libraries."""

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

from pte_foundry.bench.measure import Comparison, Side, side_by_side
from pte_foundry.bench.nothing import LOADED_ALREADY, LOADS
from pte_foundry.job.fork_server import KINDS, OFF, VARIABLE

TITLE = "A job's fixed cost"
HOW = (
    "Seconds from the start to the end of a step that loads the libraries of its kind and does "
    "nothing with them, alternately in a fork of a fork server and in a process of its own "
    "(FOUNDRY_FORK_SERVER=off), with the log file that every step has. deterministic: steps whose "
    "bytes count, such as lowering; native: those that run programs, such as validation. "
    "once_a_build_s: the first step, for which the server loads the libraries."
)
ROUNDS = 5
ROOT = Path(__file__).parents[2]
# Starts fork servers, prints their folder, and ends them when its input ends.
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
    """One for each kind of step; none where there are no fork servers."""
    with tempfile.TemporaryDirectory() as folder, _fork_servers(Path(folder)) as sockets:
        if not sockets:
            return
        for kind in KINDS:
            fork, alone = (partial(_step, kind, Path(folder), value) for value in (sockets, OFF))
            began = time.perf_counter()
            fork()
            once = time.perf_counter() - began
            ours, theirs, *said = side_by_side(fork, alone, ROUNDS)
            if said != [LOADED_ALREADY, LOADS]:
                raise RuntimeError(f"{kind}: no fork, and nothing of its own: {said}")
            yield Comparison(
                kind,
                Side("fork of a fork server", ours),
                Side("process of its own", theirs),
                {"once_a_build_s": once},
            )


@contextmanager
def _fork_servers(folder: Path) -> Iterator[str]:
    """Yields the folder of the sockets of fork servers that live as long as the context."""
    environment = {k: v for k, v in os.environ.items() if k != VARIABLE}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:  # closes its input at the end, and waits
        yield holder.stdout.readline().strip()


def _step(kind: str, folder: Path, sockets: str) -> str:
    """Runs the step; returns the first line of its log."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "pte_foundry.bench.nothing",
        "--kind",
        kind,
        "--log",
        "step.log",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), VARIABLE: sockets}
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return (folder / "step.log").read_text(encoding="utf-8").splitlines()[0]
