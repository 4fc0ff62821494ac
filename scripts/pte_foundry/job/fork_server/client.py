"""What a step that was just started does first: see whether a warm process takes its work."""

import json
import os
import socket
import sys

from pte_foundry.job.fork_server import VARIABLE

OFF = "off"


def hand_over(kind: str) -> int | None:
    """Lets a warm process run this step.

    Returns:
        The step's exit code; None if there is no such process or it does not take the step, so
        that the caller does the work itself.
    """
    folder = os.environ.get(VARIABLE, OFF)
    spec = sys.modules["__main__"].__spec__
    if folder == OFF or spec is None:
        return None
    request = {
        "module": spec.name,
        "argv": sys.argv[1:],
        "folder": os.getcwd(),
        "environment": dict(os.environ),
    }
    message = json.dumps(request).encode()
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(os.path.join(folder, kind))
            socket.send_fds(connection, [len(message).to_bytes(4, "little")], [0, 1, 2])
            connection.sendall(message)
            reply = connection.recv(1)
    except OSError:
        return None
    # No reply: it declined, or died. A step may be run twice: it renames its results into place.
    return reply[0] if reply else None
