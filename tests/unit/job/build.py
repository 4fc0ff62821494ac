"""A build with fork servers, for their tests."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
from pte_foundry.bench.jobs import HOLDER
from pte_foundry.job.fork_server import EXECUTING, VARIABLE, socket_address

ROOT = Path(__file__).resolve().parents[3]

STEP = """
import os, sys, time
from pathlib import Path
from pte_foundry.job import command

def main(argv=None):
    parser = command.parser("")
    parser.add_argument("--body")
    parser.add_argument("--kind", default=command.EXECUTING)
    arguments = parser.parse_args(argv)
    loaded = "torch" in sys.modules
    def step():
        print("loaded", loaded, "parent", os.getppid())
        exec(arguments.body, globals())
    return command.run(arguments, step, fork=arguments.kind)

if __name__ == "__main__":
    raise SystemExit(main())
"""


class Build:
    """Does what Snakemake does: starts the fork servers, starts steps, and ends some time."""

    def __init__(self, folder: Path, holder: str = HOLDER, **environment: str) -> None:
        self.folder = folder
        (folder / "a_step.py").write_text(STEP)
        path = f"{ROOT}/scripts:{folder}"
        self.environment = os.environ | {"PYTHONPATH": path} | environment
        self.environment.pop(VARIABLE, None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", holder],
            cwd=folder,
            env=self.environment | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "terminal").open("wb"),
            text=True,
        )
        self.sockets = Path(self.process.stdout.readline().strip())
        self.servers = psutil.Process(self.process.pid).children()

    def start(
        self, body: str, *arguments: str, module: str = "a_step", **environment: str
    ) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", module, "--body", body, *arguments],
            cwd=self.folder,
            env=self.environment | {VARIABLE: str(self.sockets)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Of tests that run in the background of a shell, interrupts are ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, body: str, *arguments: str, **options: str) -> tuple[int, str, str]:
        running = self.start(body, *arguments, **options)
        out, err = running.communicate(timeout=120)
        return running.returncode, out, err

    def server(self, kind: str) -> psutil.Process:
        return next(process for process in self.servers if kind in process.cmdline())

    def log(self, kind: str = EXECUTING) -> str:
        return (self.folder / "logs" / "fork_server" / f"{kind}.log").read_text()

    def left(self) -> list[psutil.Process]:
        """The fork servers of this build that still run."""
        return [p for p in self.servers if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


@contextmanager
def connected(folder: Path, kind: str = EXECUTING):
    """A step that has connected, and is stopped before it sends anything."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        with socket_address(folder, kind) as address:
            connection.connect(address)
        yield connection


def eventually(true, seconds: float = 30) -> None:
    """Waits until ``true()``."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def pids(text: str) -> tuple[str, str]:
    """Whether a step had torch loaded when it began, "True" or "False", and its parent."""
    return tuple(text.split()[1:4:2])
