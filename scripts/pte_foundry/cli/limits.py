"""The options of the commands that read a file of somebody else: what that may take."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from pte_foundry.limits import Limits, available_memory

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)B?", re.IGNORECASE)

# Weights of four bits become fp32, and a program holds them once; the rest is for its values.
_MEMORY, _MEMORY_PER_BYTE = 4 << 30, 16
_SECONDS, _SECONDS_PER_MB = 60, 2


def add_limits(parser: argparse.ArgumentParser, factor: int = 1) -> None:
    """Adds the options.

    Args:
        parser: of the command.
        factor: how many times the default limits the command needs.
    """
    group = parser.add_argument_group(
        "limits", "of the process that reads the file; the defaults grow with its size"
    )
    group.add_argument(
        "--max-memory",
        type=_size,
        metavar="SIZE",
        help=f"as 512M or 16G ({factor * _MEMORY >> 30} GB and {factor * _MEMORY_PER_BYTE} times "
        "the file, at most what is free)",
    )
    group.add_argument(
        "--max-seconds",
        type=whole_number,
        metavar="N",
        help=f"wall time ({factor * _SECONDS}, and {factor * _SECONDS_PER_MB} for each MB)",
    )
    group.add_argument(
        "--max-steps",
        type=whole_number,
        metavar="N",
        help=f"instructions of a run, every turn of a loop counted ({Limits().steps})",
    )
    parser.set_defaults(limit_factor=factor)


def limits_of(arguments: argparse.Namespace) -> Limits:
    """The limits that the options give for the command's file or folder, ``arguments.file``."""
    factor, size = arguments.limit_factor, _bytes_on_disk(arguments.file)
    memory = arguments.max_memory
    if memory is None:
        memory = min(factor * (_MEMORY + _MEMORY_PER_BYTE * size), available_memory())
    seconds = arguments.max_seconds or factor * (_SECONDS + _SECONDS_PER_MB * size // 10**6)
    return Limits(memory, arguments.max_steps or Limits().steps, seconds)


def _bytes_on_disk(path: Path) -> int:
    """Bytes that a file, or a folder's files, take on disk: fewer than their size if sparse."""
    paths = [path]
    for folder, _, names in os.walk(path):
        paths += [Path(folder, name) for name in names]
    total = 0
    for file in paths:
        try:
            status = file.stat()
        except (OSError, ValueError):
            continue  # reading it will tell
        total += min(status.st_size, status.st_blocks * 512)
    return total


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a size such as 512M or 16G")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def whole_number(text: str) -> int:
    """Returns the value of an option that is a whole number above 0."""
    if not text.isdecimal() or not 0 < int(text) < 10**9:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number above 0")
    return int(text)
