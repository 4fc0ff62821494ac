"""Limits on the execution of a program that somebody else wrote.

A run is metered by :func:`metered`: the interpreters report each instruction and each allocation to
the current :class:`Meter`, which raises LimitError. A program that calls another, a ``.pte`` its
Core ML delegates, shares one meter with it.

The meter sees what happens between operations. It cannot interrupt a slow one, nor survive a crash
in a library: for that, the commands run in a child process (:mod:`pte_foundry.cli.child`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pte_foundry.errors import LimitError

_STATM, _MEMINFO = Path("/proc/self/statm"), Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup/memory.max")
# Bytes that a run allocates between two looks at the memory of the process.
_UNCOUNTED = 1 << 26


@dataclass(frozen=True)
class Limits:
    """What loading a program, and each of its runs, may take.

    Attributes:
        memory: bytes allocated beyond those in use at the start. None: what is available then.
        steps: instructions, those of nested blocks and of every turn of a loop included.
        seconds: wall time.
    """

    memory: int | None = None
    steps: int = 1_000_000
    seconds: float = 3600


class Meter:
    """What one run has taken so far, against its limits.

    Attributes:
        limits: what it may take.
        steps: instructions so far.
        cap: bytes of the largest value that the current instruction may make; None for no other
            limit than :attr:`memory`.
        watch: reports what is allocated within it, if it was set.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.watch: AbstractContextManager[object] = nullcontext()
        self.steps = 0
        self.cap: int | None = None
        self._end = time.monotonic() + limits.seconds
        self._start = _process_bytes()
        self._uncounted = 0

    @cached_property
    def memory(self) -> int:
        """The limit on memory in bytes."""
        return available_memory() if self.limits.memory is None else self.limits.memory

    def step(self) -> None:
        """Count one instruction. Raises LimitError."""
        self.steps += 1
        if self.steps > self.limits.steps:
            raise LimitError(f"the program does not end within {self.limits.steps} instructions")
        if time.monotonic() > self._end:
            raise LimitError(f"the program does not end within {self.limits.seconds:g} seconds")

    def take(self, steps: int, count: int) -> None:
        """Count instructions and the bytes of their results. Raises LimitError."""
        self.steps += steps - 1
        self.step()
        self.count(count)

    def allocate(self, count: int) -> None:
        """Count an allocation of ``count`` bytes before it is made. Raises LimitError."""
        if self.cap is not None and count > self.cap:
            raise LimitError(f"a value of {count} bytes, far more than the program declares")
        if count > self.memory:
            raise LimitError(
                f"a value of {count} bytes exceeds the limit of {self.memory} bytes of memory"
            )
        self.count(count, made=False)

    def count(self, count: int, made: bool = True) -> None:
        """Count an allocation that was made already, or is about to be. Raises LimitError."""
        self._uncounted += count
        if self._uncounted > _UNCOUNTED:
            self._uncounted = 0
            used = _process_bytes() - self._start + (0 if made else count)
            if used > self.memory:
                raise LimitError(
                    f"the program takes {used} bytes of memory, the limit is {self.memory} bytes"
                )


_meter: ContextVar[Meter | None] = ContextVar("_meter", default=None)


@contextmanager
def metered(limits: Limits) -> Iterator[Meter]:
    """Limit what the block takes.

    Raises:
        LimitError: a limit is exceeded, or the machine has no more memory.
    """
    meter = Meter(limits)
    token = _meter.set(meter)
    try:
        yield meter
    except MemoryError as error:
        raise LimitError("the program needs more memory than there is") from error
    finally:
        _meter.reset(token)


def current() -> Meter | None:
    """The meter of the current run, if there is one."""
    return _meter.get()


def allocate(count: int) -> None:
    """Count an allocation of ``count`` bytes in the current run, if there is one."""
    if (meter := _meter.get()) is not None:
        meter.allocate(count)


def available_memory() -> int:
    """Bytes of memory that this machine, or this container, can still give."""
    try:
        lines = dict(line.split(":") for line in _MEMINFO.read_text().splitlines())
        available = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # another system than Linux
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    try:
        return min(available, int(_CGROUP.read_text()))
    except (OSError, ValueError):  # no cgroup, or one without a limit
        return available


def _process_bytes() -> int:
    """Bytes of memory that this process has written to; 0 where the system does not tell.

    Reserved memory does not count, threads reserve much, nor do mapped files.
    """
    try:
        _, resident, shared, *_ = map(int, _STATM.read_text().split())
    except OSError:
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
