"""The first thing that a step does: it lets the fork server do its work, if there is one."""

import os
import socket
import sys
from pathlib import Path

from pte_foundry.job.fork_server import OFF, VARIABLE, socket_address
from pte_foundry.job.fork_server.protocol import REPLY, TAKEN, send_request

PATIENCE = 120.0
"""Seconds within which the server must take a step. Loading all libraries takes 5 to 30."""


def run_in_fork(kind: str) -> int | None:
    """Runs this step in a child of the fork server, and waits for its end.

    Returns:
        The step's exit code, negative for the signal that killed it, as in ``subprocess``. None if
        the caller must do the work itself: there is no server, it declined, it does not answer, or
        it died. A step may run twice, because it renames its results into place.
    """
    folder = os.environ.get(VARIABLE, OFF)
    spec = sys.modules["__main__"].__spec__
    if folder == OFF or spec is None:
        return None
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            with socket_address(Path(folder), kind) as address:
                connection.connect(address)
            send_request(connection, spec.name, sys.argv[1:])
            if connection.recv(len(TAKEN)) != TAKEN:
                return None
            connection.settimeout(None)  # a step may take hours
            reply = connection.recv(REPLY.size)
    except OSError:
        return None
    return REPLY.unpack(reply)[0] if len(reply) == REPLY.size else None
