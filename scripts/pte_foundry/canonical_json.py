"""Canonical JSON: equal values give equal text, for digests and for command-line arguments."""

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

_LONGEST = 2048
_COMPRESSED = "zlib:"


def canonical(value: Any) -> str:
    """Returns canonical JSON: sorted keys, no spaces, ASCII. Raises ValueError for nan and inf."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """Returns the SHA-256 of a value's canonical JSON, in lower-case hexadecimal."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def encoded(part: Mapping[str, Any]) -> str:
    """Returns a slice of the config as a command-line argument: JSON, compressed if long.

    Linux accepts no argument over 128 KiB, which a recipe with 500 per-module settings exceeds.
    """
    text = canonical(part)
    if len(text) <= _LONGEST:
        return text
    return _COMPRESSED + base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def decoded(argument: str) -> Any:
    """Decodes a result of :func:`encoded`.

    Raises:
        ValueError: it is not one.
    """
    if argument.startswith(_COMPRESSED):
        packed = base64.b64decode(argument.removeprefix(_COMPRESSED))
        try:
            argument = zlib.decompress(packed).decode()
        except zlib.error as error:
            raise ValueError(str(error)) from error
    return json.loads(argument)
