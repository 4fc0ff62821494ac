"""Cleans up after an interrupted build in a folder, before the next one starts.

A Snakemake that is killed leaves its lock, and steps that still run. The steps end by themselves,
but must not write into a folder in which the next build has begun.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import psutil

from pte_foundry.errors import FoundryError

STEPS = "pte_foundry.steps"


class BusyError(FoundryError):
    """Another build is running in this folder."""


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


def resume(folder: Path) -> None:
    """Waits for steps whose Snakemake is gone, then removes its lock and half-written files.

    Raises BusyError if a Snakemake is running in the folder.
    """
    snakemakes, steps = working_here(folder)
    if snakemakes:
        raise BusyError(
            f"another build is working in this folder (process {snakemakes[0].pid}). "
            "Wait for it to end, or end it, and run again."
        )
    if steps:
        print("Waiting for the steps of an interrupted build to end", file=sys.stderr)
        psutil.wait_procs(steps)
    if any((folder / ".snakemake" / "locks").glob("*")):
        subprocess.run(["snakemake", "--unlock"], cwd=folder, check=True, capture_output=True)
    for path in sorted((folder / "results").glob("**/.*")):  # named by pte_foundry.files
        shutil.rmtree(path) if path.is_dir() else path.unlink()
