"""Begins a build in a folder: takes its lock, and cleans up after one that was killed.

A Snakemake that is killed leaves its lock, and steps that still run. The steps end by themselves,
but must not write into a folder in which the next build has begun.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil

from pte_foundry.files import is_abandoned
from pte_foundry.upstream.snakemake_locks import locks, remove_locks
from pte_foundry.workflow.build_lock import BuildLock, BusyError

STEPS = "pte_foundry.steps"
OWN = ".snakemake/pte_foundry"
WRITTEN = ("results", "benchmarks")
"""Folders that pte_foundry.files writes into, with the one above."""


def is_snakemake(command: list[str]) -> bool:
    """Returns whether a command is Snakemake itself, and not a shell or step of a build."""
    return any(Path(part).name == "snakemake" for part in command[:3])


def step_of(command: list[str]) -> str | None:
    """Returns the step of a build that a command runs, or None. Only rules pass ``--log``."""
    if "-m" not in command[:4] or "--log" not in command:
        return None
    package, _, step = command[command.index("-m") + 1].rpartition(".")
    return step if package == STEPS else None


def working_here(folder: Path) -> tuple[list[psutil.Process], list[psutil.Process]]:
    """Returns the Snakemakes and the steps that run in a folder.

    This process and its parents do not count, and neither do other users' processes.
    """
    ours = {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    snakemakes, steps = [], []
    for process in psutil.process_iter():
        try:
            command, here = process.cmdline(), Path(process.cwd()) == folder
        except psutil.Error:
            continue  # ended meanwhile, or another user's
        if not here or process.pid in ours:
            continue
        if is_snakemake(command):
            snakemakes.append(process)
        elif step_of(command):
            steps.append(process)
    return snakemakes, steps


def begin(
    folder: Path,
    *,
    builds: bool = True,
    force: bool = False,
    written: Iterable[str | Path] = WRITTEN,
) -> BuildLock:
    """Takes the lock of a folder and cleans up after a build there that was killed.

    Waits for steps whose Snakemake is gone, removes its locks, and deletes half-written files: only
    those that :mod:`pte_foundry.files` has named, and no folders.

    Args:
        folder: the folder.
        builds: false if nothing is built afterwards.
        force: also if the last build was on another host and may still run.
        written: folders of results in it.

    Raises:
        BusyError: a build is running in the folder, or may be.
    """
    lock = BuildLock(folder)
    if lock.acquire(builds=builds, force=force) or locks(folder):
        try:
            _outlive(folder)
        except BaseException:
            lock.release()
            raise
        remove_locks(folder)
    for place in (*written, OWN):
        for parent, _, names in os.walk(folder / place):
            for path in (Path(parent, name) for name in names):
                if is_abandoned(path):
                    path.unlink(missing_ok=True)
    return lock


def _outlive(folder: Path) -> None:
    """Waits for the steps that run in a folder. Raises BusyError if a Snakemake runs there."""
    snakemakes, steps = working_here(folder)
    if snakemakes:  # one that holds no lock of ours, as of an older version
        raise BusyError(
            f"another build is working in this folder (process {snakemakes[0].pid}). "
            "Wait for it to end, or end it, and run again."
        )
    if steps:
        print("Waiting for the steps of an interrupted build to end", file=sys.stderr)
        psutil.wait_procs(steps)
