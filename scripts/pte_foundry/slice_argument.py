"""Slices of the config as command-line arguments of steps.

Linux takes no argument over 128 KiB, and a job's whole command is one argument of its shell. So a
long slice goes into a file named after its content, and the argument names it. The argument decides
about rebuilding as before: another slice is another name. Whoever computes the argument writes the
file, on a cluster also the node that executes the job.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pte_foundry.canonical_json import canonical
from pte_foundry.errors import DamagedError
from pte_foundry.files import check, write_bytes

STORE = Path(".snakemake/pte_foundry/slices")

_LONGEST = 2048
_FILE = re.compile(r"file:([0-9a-f]{64})")


def encoded(part: Mapping[str, Any]) -> str:
    """Returns a slice as an argument: JSON, or the name of a file that this function writes."""
    text = canonical(part)
    if len(text) <= _LONGEST:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    path = STORE / f"{digest}.json"
    try:
        check(path, digest)
    except DamagedError:
        write_bytes(path, text.encode())
    return f"file:{digest}"


def decoded(argument: str) -> Any:
    """Decodes a result of :func:`encoded`, in the folder that it was called in.

    Raises:
        ValueError: it is not one.
        DamagedError: its file is missing or has another content.
    """
    if found := _FILE.fullmatch(argument):
        path = STORE / f"{found[1]}.json"
        check(path, found[1])
        argument = path.read_text(encoding="utf-8")
    return json.loads(argument)


def is_encoded(argument: str) -> bool:
    """Whether an argument looks like a slice, as opposed to a path or a digest."""
    return argument.startswith("{") or _FILE.fullmatch(argument) is not None
