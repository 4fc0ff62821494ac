"""Commands that read a file of somebody else, in a process of their own.

What a file can still do is crash a library, take all memory, or keep an operation busy for ever.
The child has a limit on its address space, and an alarm that the kernel delivers whatever it does.
Its parent turns how it ended into one message.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pte_foundry.limits import Limits

_LIBRARIES = "pte_foundry.pte"
# Of the address space that libraries reserve after they are loaded: stacks and heaps of threads.
_PER_THREAD = 160 << 20
_MESSAGES = 1 << 20  # bytes of what the child says that are shown


def run(work: Callable[[], int], limits: Limits) -> int | str:
    """Runs a command in a child process.

    Args:
        work: the command; reports its own errors and returns an exit code.
        limits: of the child.

    Returns:
        The exit code; or a message, if the child was ended by a signal.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        os.dup2(write, 2)
        os.close(write)
        code = 70
        try:
            _restrict(limits)
            code = work()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
    os.close(write)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    said = _read(read)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status):
        print(said.decode(errors="backslashreplace"), end="", file=sys.stderr)
        return os.WEXITSTATUS(status)
    return _describe(os.WTERMSIG(status), limits)


def _restrict(limits: Limits) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    importlib.import_module(_LIBRARIES)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limits.seconds + 1)  # the interpreter's own comes first
    with suppress(OSError, ValueError):  # no /proc, or a lower limit that is there already
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        space = used + limits.memory + _PER_THREAD * (os.cpu_count() or 1)
        resource.setrlimit(resource.RLIMIT_AS, (space, space))


def _read(pipe: int) -> bytes:
    """What the child says, up to a limit. Ends when the child has."""
    said = b""
    with os.fdopen(pipe, "rb") as stream:
        while part := stream.read1(1 << 16):
            said += part[: max(_MESSAGES - len(said), 0)]
    return said


def _describe(number: int, limits: Limits) -> str:
    match number:
        case signal.SIGALRM:
            return f"not finished within {limits.seconds} seconds; --max-seconds allows more"
        case signal.SIGKILL:
            return "the process that read the file was killed, probably for lack of memory"
        case signal.SIGTERM:
            return "terminated"
    name = signal.Signals(number).name if number in list(signal.Signals) else f"signal {number}"
    return (
        f"the file crashed a library that computes it ({name}): it is malformed, or was made to do "
        "so. Nothing else was affected."
    )
