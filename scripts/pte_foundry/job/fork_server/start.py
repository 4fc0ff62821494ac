"""Starts the warm processes of a build, for as long as the process that asks for them lives."""

import ast
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from pte_foundry.job.fork_server import KINDS, VARIABLE


def imported(files: Iterable[Path]) -> list[tuple[str, list[str]]]:
    """Modules that Python files import at their top, and the names that they take from each."""
    found: dict[str, set[str]] = {}
    for file in files:
        try:
            tree = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue  # the step that runs it will say so
        for node in tree.body:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found.setdefault(alias.name, set())
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.setdefault(node.module, set()).update(alias.name for alias in node.names)
    return [(module, sorted(names)) for module, names in sorted(found.items())]


def start(models: Iterable[Path], logs: Path) -> None:
    """Starts what :mod:`pte_foundry.job.fork_server` describes, for this process and all that it starts.

    They load nothing until the first step asks, and end with this process, however that ends, when
    the steps that they run have ended. Does nothing if they are switched off or there already.

    Args:
        models: the files of model modules, whose libraries are loaded as well.
        logs: folder for what libraries say while they are loaded; steps have logs of their own.
    """
    if VARIABLE in os.environ or sys.platform != "linux":
        return
    folder = tempfile.mkdtemp(prefix="foundry-")  # for this user alone
    # The end of this pipe is the sign that this process is gone; only it holds the writing end.
    lifeline, _held = os.pipe()
    libraries = json.dumps(imported(models))
    command = [sys.executable, "-m", "pte_foundry.job.fork_server.server"]
    logs.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        log = logs / f"{kind}.log"
        with socket.socket(socket.AF_UNIX) as listener, log.open("wb") as output:
            listener.bind(os.path.join(folder, kind))
            listener.listen(128)
            subprocess.Popen(
                [*command, kind, libraries, str(listener.fileno())],
                stdin=lifeline,
                stdout=output,
                stderr=output,
                pass_fds=[listener.fileno()],
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
                start_new_session=True,  # an interrupt from the keyboard is for the steps
            )
    os.close(lifeline)
    os.environ[VARIABLE] = folder
