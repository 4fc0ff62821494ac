"""Runs many programs, each in a process of its own, which a crash or a hang cannot leave."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

LIMIT = 120.0
"""Seconds after which a program is given up."""


@dataclass
class _Child:
    key: tuple
    pid: int
    started: float
    text: bytes = b""


def forked(jobs: dict[tuple, Callable[[], object]], processes: int) -> Iterator[tuple[tuple, dict]]:
    """Runs functions in forks of this process; yields their results, dataclasses, as they end."""
    waiting, selector = list(jobs.items()), selectors.DefaultSelector()
    while waiting or selector.get_map():
        while waiting and len(selector.get_map()) < processes:
            key, function = waiting.pop(0)
            reader, pid = _fork(function)
            selector.register(reader, selectors.EVENT_READ, _Child(key, pid, time.monotonic()))
        for event, _ in selector.select(timeout=1):
            child = event.data
            read = os.read(event.fd, 1 << 16)
            child.text += read
            if not read:
                selector.unregister(event.fd)
                os.close(event.fd)
                yield child.key, _ended(child)
        for event in list(selector.get_map().values()):
            if time.monotonic() - event.data.started > LIMIT:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(event.data.pid, signal.SIGKILL)


def _fork(function: Callable[[], object]) -> tuple[int, int]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return reader, pid
    try:
        os.close(reader)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        text = json.dumps(asdict(function())).encode()
        with os.fdopen(writer, "wb") as file:
            file.write(text)
    finally:
        os._exit(0)


def _ended(child: _Child) -> dict:
    _, status = os.waitpid(child.pid, 0)
    if child.text:
        return json.loads(child.text)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        outcome = "hung" if number == signal.SIGKILL else "crashed"
        return {"outcome": outcome, "detail": signal.Signals(number).name, "operators": []}
    return {"outcome": "crashed", "detail": "no result", "operators": []}
