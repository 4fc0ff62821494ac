"""What a step reads of the configuration about all builds at once: a file, with a digest.

It would not fit into a command line, of which Linux passes on no argument longer than 128 KiB. The
rules write it when a run begins, and the digest is what they call the step with.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.errors import DamagedError
from scripts.files import read_json, write_json


def digest(plan: Mapping[str, Any]) -> str:
    """Changes with the plan's content, not with the order of its keys."""
    text = json.dumps(plan, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write(path: Path, plan: Mapping[str, Any]) -> None:
    write_json(path, plan)


def read(path: Path, expected: str) -> dict[str, Any]:
    """Reads a plan. Raises DamagedError unless it is there and has this digest."""
    plan = read_json(path)
    if digest(plan) != expected:
        raise DamagedError(path, "it is the plan of another run")
    return plan
