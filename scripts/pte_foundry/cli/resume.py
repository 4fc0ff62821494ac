"""``pte-foundry resume``: cleans up after an interrupted build in this folder."""

import argparse
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil

from pte_foundry.workflow.build_lock import BuildLock
from pte_foundry.workflow.resume import begin

DESCRIPTION = """\
Prepares the current folder for the next build after one that was killed: waits
for its steps that still run, removes its locks, and deletes the half-written
files that they have left, and nothing else. Every build does the same when it
begins. Refuses while another build is running in the folder, on this host or
another one, and names its host, user and process. Given a command, runs it, and
keeps other builds out of the folder until it has ended."""
EXAMPLES = """\
  pte-foundry resume
  pte-foundry resume --force   # after a build on another host, which has ended
  pte-foundry resume -- sh -c "snakemake -c2 structure && snakemake -c2"
"""
EXIT_CODES = {1: "another build is running in the folder, or may be; else that of the command"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--force",
        action="store_true",
        help="remove the lock of a build on another host or in another container, of which this "
        "host cannot tell that it has ended",
    )
    parser.add_argument("command", nargs="*", metavar="COMMAND", help="after --; runs it")


def run(arguments: argparse.Namespace) -> int:
    lock = begin(Path.cwd(), builds=bool(arguments.command), force=arguments.force)
    try:
        return _run(arguments.command, lock) if arguments.command else 0
    finally:
        lock.release()


def _run(command: list[str], lock: BuildLock) -> int:
    """Runs a command while the lock is held; returns its exit code, as a shell does.

    What ends this process ends the command, and this process waits for it: Ctrl-C reaches both by
    itself, other signals are passed on to the command and, if it is a shell, to what it runs.
    """
    started: list[psutil.Process] = []

    def end(number: int, _frame: object) -> None:
        with suppress(psutil.Error):
            for process in (*started, *(child for p in started for child in p.children())):
                process.send_signal(number)

    handlers = {signal.SIGINT: lambda *_: None, signal.SIGTERM: end, signal.SIGHUP: end}
    for number, handler in handlers.items():
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it, also for the command
            signal.signal(number, handler)
    with subprocess.Popen(command, pass_fds=lock.descriptors) as running:
        started.append(psutil.Process(running.pid))
        code = running.wait()
    return code if code >= 0 else 128 - code
