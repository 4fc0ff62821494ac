"""A warm process: loads the libraries when the first step asks, then forks for every step.

``python -m pte_foundry.job.fork_server.server KIND LIBRARIES LISTENER``: what models import, as JSON, and the
number of an open listening socket. Standard input is the lifeline: at its end no further steps are
taken.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pte_foundry.job import deterministic_env
from pte_foundry.job.fork_server import NATIVE, PORTABLE, VARIABLE
from pte_foundry.upstream.coremltools_imports import load_coremltools

# What the steps of a kind import; whatever else one of them needs it imports itself.
LOADED = {
    PORTABLE: (
        "pte_foundry.lowering.edge_program",
        "pte_foundry.lowering.coreml",
        "pte_foundry.models.module",
        "pte_foundry.models.programs",
        "pte_foundry.formats.canonical_pte",
        "pte_foundry.quantize.pt2e",
        "pte_foundry.quantize.weight_only",
        "pte_foundry.models.tensors",
    ),
    NATIVE: (
        "pte_foundry.mil",
        "pte_foundry.models.module",
        "pte_foundry.models.programs",
        "pte_foundry.pte.execute",
        "pte_foundry.formats.inspect_pte",
        "pte_foundry.models.tensors",
        "pte_foundry.validate.check",
        "pte_foundry.validate.metrics",
    ),
}
# What differs between the shells of two steps and means nothing to a step.
_SHELL = {"_", "SHLVL", "PWD", "OLDPWD"}


@dataclass
class Request:
    """A step that was started, and what it is connected to."""

    connection: socket.socket
    files: list[int]
    step: dict[str, Any]

    @classmethod
    def accept(cls, listener: socket.socket) -> Request:
        connection, _ = listener.accept()
        header, files, _, _ = socket.recv_fds(connection, 4, 3)
        size = int.from_bytes(header, "little")
        message = bytearray()
        while len(message) < size and (part := connection.recv(size - len(message))):
            message += part
        return cls(connection, files, json.loads(message))

    @property
    def environment(self) -> dict[str, str]:
        return {k: v for k, v in self.step["environment"].items() if k not in _SHELL}

    def close(self) -> None:
        self.connection.close()
        for file in self.files:
            os.close(file)


def adopt(request: Request, kind: str, libraries: str, listener: socket.socket) -> None:
    """Starts this process anew in the environment of its first step, which waits meanwhile.

    Libraries read the environment when they are loaded, so it must be that of the steps. What does
    not survive is handed on by number: the listener, the connection, its files and its message.
    """
    message = os.memfd_create("request")
    os.write(message, json.dumps(request.step).encode())
    kept = [listener.fileno(), request.connection.fileno(), message, *request.files]
    for number in kept:
        os.set_inheritable(number, True)
    fixed = deterministic_env.ENVIRONMENT if kind == PORTABLE else {}
    command = [sys.executable, "-m", __spec__.name, kind, libraries, *map(str, kept)]
    os.execve(sys.executable, command, request.environment | fixed)


def adopted(connection: str, message: str, *files: str) -> Request:
    """The first step, in the process that was started for it."""
    with open(int(message), "rb") as file:
        file.seek(0)
        step = json.load(file)
    numbers = [int(file) for file in files]
    for number in (int(connection), *numbers):
        os.set_inheritable(number, False)
    return Request(socket.socket(fileno=int(connection)), numbers, step)


def load_kind(kind: str) -> None:
    """Imports what steps of this kind need."""
    if kind == PORTABLE:
        load_coremltools()
    for name in LOADED[kind]:
        importlib.import_module(name)


def load(kind: str, libraries: list[tuple[str, list[str]]]) -> None:
    """Imports what steps of this kind need, and what models import."""
    load_kind(kind)
    from pte_foundry.upstream.torchvision_operators import declare_missing_operators

    declare_missing_operators()  # first: they may import torchvision or transformers
    for library, names in libraries:
        with contextlib.suppress(Exception):  # the step that needs it will say so
            module = importlib.import_module(library)
            for name in names:
                getattr(module, name)
    gc.collect()
    gc.freeze()  # the children's collector leaves it alone, so its memory stays shared


class Server:
    """Forks for every step, and tells those who started one how it died, if it did."""

    def __init__(self, kind: str, listener: socket.socket, lifeline: int) -> None:
        # As it is before anything is imported: some libraries write into it.
        self._environment = {k: v for k, v in os.environ.items() if k not in _SHELL}
        self._fixed = deterministic_env.ENVIRONMENT if kind == PORTABLE else {}
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(lifeline, selectors.EVENT_READ)
        self._running: dict[int, tuple[int, socket.socket]] = {}
        self._lifeline = lifeline

    def serve(self, first: Request) -> None:
        self._take(first)
        alive = True
        while alive or self._running:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    with contextlib.suppress(OSError, ValueError):  # one that is gone already
                        self._take(Request.accept(self._listener))
                elif key.fd == self._lifeline:
                    alive = False
                    self._selector.unregister(self._lifeline)
                    self._selector.unregister(self._listener)
                    self._listener.close()
                else:
                    self._reap(key.fd)

    def _take(self, request: Request) -> None:
        if request.environment | self._fixed != self._environment:
            request.close()
            return
        child = os.fork()
        if child == 0:
            self._forget()
            _run(request)
        handle = os.pidfd_open(child)
        self._selector.register(handle, selectors.EVENT_READ)
        self._running[handle] = child, request.connection
        for file in request.files:
            os.close(file)

    def _forget(self) -> None:
        """Closes in a child what belongs to others: they must see each other's end."""
        self._selector.close()
        self._listener.close()
        for handle, (_, connection) in self._running.items():
            os.close(handle)
            connection.close()

    def _reap(self, handle: int) -> None:
        child, connection = self._running.pop(handle)
        self._selector.unregister(handle)
        os.close(handle)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            with contextlib.suppress(OSError):
                connection.send(bytes([128 + os.WTERMSIG(status)]))
        connection.close()


def _run(request: Request) -> None:
    """Runs a step in the child, and ends it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate(request.files):
        os.dup2(file, number)
        os.close(file)
    threading.Thread(target=_die_with, args=[request.connection], daemon=True).start()
    code = 1
    try:
        os.chdir(request.step["folder"])
        os.environ.pop(VARIABLE, None)
        sys.argv[1:] = request.step["argv"]
        code = importlib.import_module(request.step["module"]).main()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        with contextlib.suppress(OSError):
            request.connection.send(bytes([code & 0xFF]))
        os._exit(code)


def _die_with(connection: socket.socket) -> None:
    """Ends this process when the one that was started for the step is gone."""
    with contextlib.suppress(OSError):
        connection.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)


def main(kind: str, libraries: str, listening: str, *handed_on: str) -> None:
    listener = socket.socket(fileno=int(listening))
    lifeline = sys.stdin.fileno()
    path = Path(listener.getsockname())
    try:
        if not handed_on:
            with selectors.DefaultSelector() as waiting:
                waiting.register(listener, selectors.EVENT_READ)
                waiting.register(lifeline, selectors.EVENT_READ)
                if any(key.fd == lifeline for key, _ in waiting.select()):
                    return
            adopt(Request.accept(listener), kind, libraries, listener)
        server = Server(kind, listener, lifeline)
        load(kind, json.loads(libraries))
        server.serve(adopted(*handed_on))
    finally:
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()  # the last one of the kinds


if __name__ == "__main__":
    main(*sys.argv[1:])
