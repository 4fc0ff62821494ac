"""Clears what an interrupted build left in this folder, before the next one starts.

Snakemake's lock outlives a Snakemake that was killed. So do the steps that it had started: they end
by themselves, and must not write after the next build has begun.
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
    """Another build is working in this folder."""


def is_snakemake(command: list[str]) -> bool:
    """Whether this is Snakemake itself, and not a shell or a step that it started."""
    return any(Path(part).name == "snakemake" for part in command[:3])


def step_of(command: list[str]) -> str | None:
    """Which step of a build this is, if it is one: rules alone give a module a log."""
    if "-m" not in command[:4] or "--log" not in command:
        return None
    package, _, step = command[command.index("-m") + 1].rpartition(".")
    return step if package == STEPS else None


def working_here(folder: Path) -> tuple[list[psutil.Process], list[psutil.Process]]:
    """The Snakemakes and the steps that run in ``folder``, without this process and its parents."""
    ours = {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    snakemakes, steps = [], []
    for process in psutil.process_iter():
        try:
            command, here = process.cmdline(), Path(process.cwd()) == folder
        except psutil.Error:
            continue  # gone meanwhile, or of another user
        if not here or process.pid in ours:
            continue
        if is_snakemake(command):
            snakemakes.append(process)
        elif step_of(command):
            steps.append(process)
    return snakemakes, steps


def resume(folder: Path) -> None:
    """Waits for steps without a Snakemake, removes its lock, and what was half-written.

    Raises BusyError if a Snakemake is running here.
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
    for path in sorted((folder / "results").glob("**/.*")):  # as pte_foundry.files names them
        shutil.rmtree(path) if path.is_dir() else path.unlink()
