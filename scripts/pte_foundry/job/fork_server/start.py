"""Starts the fork servers of a build, for as long as the process that starts them lives."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from pte_foundry.job.fork_server import BUILDING, KINDS, VARIABLE, socket_address

_WAITING = 128  # steps that may wait to be accepted, while a server loads its libraries


def merged(libraries: Iterable[Mapping[str, set[str]]]) -> list[tuple[str, list[str]]]:
    """Returns the modules that models import, each with the names that any of them imports."""
    found: dict[str, set[str]] = {}
    for each in libraries:
        for module, names in each.items():
            found.setdefault(module, set()).update(names)
    return [(module, sorted(names)) for module, names in sorted(found.items())]


def start(libraries: Iterable[Mapping[str, set[str]]], logs: Path, *, shared: bool = False) -> None:
    """Starts the fork servers for this process and all that it starts.

    They load nothing until the first step comes. After this process ends, in whatever way, they
    end as soon as the steps that they run have ended. Does nothing if they are switched off or
    exist already. If they cannot be started, steps do their work in their own processes, and
    ``logs`` tells why.

    Args:
        libraries: of each model the modules that the servers load for it, with names from them.
            They are of installed packages only: a step must import the user's own files itself, as
            they are when it runs.
        logs: folder for the servers' logs. Steps have logs of their own.
        shared: start one server for all kinds, which takes less memory where steps run in turn.
    """
    if VARIABLE in os.environ or sys.platform != "linux":
        return
    try:
        folder = Path(tempfile.mkdtemp(prefix="foundry-"))  # for this user alone
        try:
            _start(folder, json.dumps(merged(libraries)), logs, shared)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    except OSError as error:
        with suppress(OSError):
            logs.mkdir(parents=True, exist_ok=True)
            for kind in KINDS:
                (logs / f"{kind}.log").write_text(
                    f"no fork server, so every step loads its libraries itself: {error}\n",
                    encoding="utf-8",
                )
        return
    os.environ[VARIABLE] = str(folder)


def _start(folder: Path, libraries: str, logs: Path, shared: bool) -> None:
    """Starts the servers. Raises OSError; those that run already end then."""
    logs.mkdir(parents=True, exist_ok=True)
    # The end of this pipe tells the servers that this process is gone: it alone holds the writing
    # end, and never closes it.
    reading, writing = os.pipe()
    try:
        for kind in KINDS:
            if shared and kind != BUILDING:
                (folder / kind).symlink_to(BUILDING)
            else:
                _start_kind(kind, folder, libraries, logs / f"{kind}.log", reading)
    except OSError:
        os.close(writing)
        raise
    finally:
        os.close(reading)


def _start_kind(kind: str, folder: Path, libraries: str, log: Path, build: int) -> None:
    with socket.socket(socket.AF_UNIX) as listener, log.open("wb") as output:
        with socket_address(folder, kind) as address:
            listener.bind(address)
        listener.listen(_WAITING)
        arguments = [kind, str(folder), libraries, str(listener.fileno())]
        subprocess.Popen(
            [sys.executable, "-P", "-m", "pte_foundry.job.fork_server.server", *arguments],
            stdin=build,
            stdout=output,
            stderr=output,
            pass_fds=[listener.fileno()],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
            start_new_session=True,  # an interrupt from the keyboard is for the steps
        )
