"""A job's fixed cost: a step forked from a warm process against one that loads all by itself."""

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
from pte_foundry.job.fork_server import KINDS, VARIABLE
from pte_foundry.job.fork_server.client import OFF

TITLE = "A job's fixed cost"
HOW = (
    "Seconds from the start to the end of a step that loads the libraries of its kind and does "
    "nothing with them, alternately in a fork of a warm process and in a process of its own "
    "(FOUNDRY_WARM=off), with the log file that every step has. portable: steps whose bytes count, "
    "such as lowering; native: those that run programs, such as validation. once_a_build_s: the "
    "first step, for which the warm process loads the libraries."
)
ROUNDS = 5
ROOT = Path(__file__).parents[2]
# Starts warm processes, says where they are, and ends them when its input ends.
HOLDER = """
import os, sys
from pathlib import Path
from pte_foundry.job.fork_server import VARIABLE
from pte_foundry.job.fork_server.start import start
start([], Path("logs"))
print(os.environ.get(VARIABLE, ""), flush=True)
sys.stdin.read()
"""


def comparisons() -> Iterator[Comparison]:
    """One for each kind of step; none where there are no warm processes."""
    with tempfile.TemporaryDirectory() as folder, _warm(Path(folder)) as sockets:
        if not sockets:
            return
        for kind in KINDS:
            warm, alone = (partial(_step, kind, Path(folder), value) for value in (sockets, OFF))
            began = time.perf_counter()
            warm()
            once = time.perf_counter() - began
            ours, theirs, *said = side_by_side(warm, alone, ROUNDS)
            if said != [LOADED_ALREADY, LOADS]:
                raise RuntimeError(f"{kind}: no fork, and nothing of its own: {said}")
            yield Comparison(
                kind,
                Side("fork of a warm process", ours),
                Side("process of its own", theirs),
                {"once_a_build_s": once},
            )


@contextmanager
def _warm(folder: Path) -> Iterator[str]:
    """The folder of sockets of warm processes that live as long as the context."""
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


def _step(kind: str, folder: Path, warm: str) -> str:
    """Runs the step; returns the first line of its log."""
    command = [
        sys.executable,
        "-m",
        "pte_foundry.bench.nothing",
        "--kind",
        kind,
        "--log",
        "step.log",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), VARIABLE: warm}
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return (folder / "step.log").read_text(encoding="utf-8").splitlines()[0]
