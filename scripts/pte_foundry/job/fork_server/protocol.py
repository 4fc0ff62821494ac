"""What a step and the fork server send to each other over a Unix socket.

1. The step sends a :class:`Request`: its standard input, output and error as file descriptors, the
   message's length (4 bytes, little-endian), and the message, JSON.
2. The server sends :data:`TAKEN` when it is about to fork.
3. The server sends the child's return code as :data:`REPLY`, negative for a signal.

If the connection ends before 3, the step must do the work itself. If it ends on the step's side,
the child must stop.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from typing import Any

TAKEN = b"\1"
REPLY = struct.Struct("<h")

_LENGTH = 4
_FILES = 3
_LARGEST = 2**24
"""Bytes of a message. Linux limits arguments and environment of a process to about 6 MiB."""
# What differs between the shells of two steps and has no meaning for a step.
_SHELL = {"_", "SHLVL", "PWD", "OLDPWD"}


class RequestError(ValueError):
    """A request that is malformed, or that ends too early."""


def send_request(connection: socket.socket, module: str, argv: list[str]) -> None:
    """Sends what this process was started with. Raises OSError if the server does not read it."""
    message = json.dumps(
        {
            "module": module,
            "argv": argv,
            "folder": os.getcwd(),
            "environment": dict(os.environ),
            "asked": time.monotonic(),  # of all processes of a machine
        }
    ).encode()
    length = len(message).to_bytes(_LENGTH, "little")
    socket.send_fds(connection, [length], list(range(_FILES)))
    connection.sendall(message)


def environment_of(variables: dict[str, str]) -> dict[str, str]:
    """Returns the variables that can matter to a step."""
    return {name: value for name, value in variables.items() if name not in _SHELL}


class Request:
    """A step that waits at the other end of a connection, and what it has sent so far.

    Attributes:
        connection: closed by :meth:`close`.
        files: the step's standard input, output and error.
        module: the step, such as ``pte_foundry.steps.lower``.
        argv: its arguments.
        folder: its working folder.
        environment: its variables.
        asked: when it asked, by the monotonic clock.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.files: list[int] = []
        self.message = bytearray()
        self.module = ""

    @classmethod
    def restore(cls, connection: int, message: int, *files: int) -> Request:
        """Returns the request that a process had before it replaced itself, by its descriptors."""
        request = cls(socket.socket(fileno=connection))
        request.files = list(files)
        with open(message, "rb") as file:
            file.seek(0)
            request.message += file.read()
        for number in (connection, *files):
            os.set_inheritable(number, False)
        request._decode()
        return request

    def receive(self) -> bool:
        """Reads what has arrived; returns whether the request is complete. Never blocks.

        Raises:
            RequestError: it is malformed, or the step has closed its end.
            OSError: the connection is broken.
        """
        try:
            part, files, _, _ = socket.recv_fds(self.connection, 2**16, _FILES)
        except BlockingIOError:
            return False
        for number in files:
            os.set_inheritable(number, False)
        self.files += files
        self.message += part
        if not part:
            raise RequestError(f"the step closed its end after {len(self.message)} bytes")
        if len(self.message) < _LENGTH:
            return False
        missing = int.from_bytes(self.message[:_LENGTH], "little") + _LENGTH - len(self.message)
        if missing < 0 or len(self.files) != _FILES or len(self.message) + missing > _LARGEST:
            raise RequestError(f"malformed: {len(self.files)} files, {missing} bytes missing")
        if missing:
            return False
        self._decode()
        return True

    def _decode(self) -> None:
        step: dict[str, Any] = json.loads(self.message[_LENGTH:])
        try:
            self.module, self.argv, self.folder = step["module"], step["argv"], step["folder"]
            self.environment = environment_of(step["environment"])
            self.asked = float(step["asked"])
            texts = [self.module, self.folder, *self.argv, *self.environment.values()]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RequestError(f"malformed: {error!r}") from error
        if not all(isinstance(text, str) for text in texts):
            raise RequestError("malformed: not all of its values are strings")

    def close(self) -> None:
        """Ends the connection: the step does the work itself, unless it has a reply."""
        self.connection.close()
        self.close_files()

    def close_files(self) -> None:
        """Closes the step's files in this process."""
        while self.files:
            os.close(self.files.pop())
