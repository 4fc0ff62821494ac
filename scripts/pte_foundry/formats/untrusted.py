"""Files of others: opened only if they are regular files, read only up to a size.

A package may contain a link to a device, a named pipe that nobody writes, or a sparse file of a
terabyte. Links to regular files are followed: caches of downloads are made of them.
"""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path

from pte_foundry.errors import ProgramError


def read_file(path: Path, limit: int) -> bytes:
    """Read a whole file.

    Raises:
        ProgramError: it is no regular file, or has more than ``limit`` bytes.
        OSError: it cannot be read.
    """
    handle, size = _open(path)
    with os.fdopen(handle, "rb") as file:
        if size > limit:
            raise ProgramError(f"{path} has {size} bytes, expected at most {limit}")
        return file.read(size)


def map_file(path: Path) -> memoryview:
    """Map a file into memory. It must not change as long as the result is used.

    Raises:
        ProgramError: it is no regular file.
        OSError: it cannot be read, or is larger than the address space.
    """
    handle, size = _open(path)
    with os.fdopen(handle, "rb"):
        if not size:
            return memoryview(b"")  # an empty file cannot be mapped
        return memoryview(mmap.mmap(handle, 0, access=mmap.ACCESS_READ))


def _open(path: Path) -> tuple[int, int]:
    """A file's descriptor and size. Never waits, as opening a named pipe does."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # a NUL or a lone surrogate in the name
        raise ProgramError(f"{str(path)!r} cannot be the name of a file: {error}") from error
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise ProgramError(f"{path} is not a regular file")
    return handle, status.st_size
