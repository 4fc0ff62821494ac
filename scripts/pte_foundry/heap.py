"""Freed memory, returned to the operating system."""

import ctypes
import os


def trim_heap() -> None:
    """Return freed heap memory to the operating system; do nothing where libc cannot.

    glibc keeps freed blocks for reuse: those below 32 MB (its largest mmap threshold, and most
    weights are smaller) stay with the process until ``malloc_trim`` (malloc_trim(3)) is called.
    """
    release = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if release is not None:
        release(0)
