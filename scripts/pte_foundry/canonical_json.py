"""Canonical JSON: equal values give equal text, and so equal digests."""

import hashlib
import json
from typing import Any


def canonical(value: Any) -> str:
    """Returns canonical JSON: sorted keys, no spaces, ASCII. Raises ValueError for nan and inf."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """Returns the SHA-256 of a value's canonical JSON, in lower-case hexadecimal."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()
