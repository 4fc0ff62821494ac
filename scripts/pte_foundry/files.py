"""Atomic writes, and checksums that detect truncated or modified files."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pte_foundry.canonical_json import digest
from pte_foundry.errors import DamagedError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Writes a file atomically: yields a temporary path, and renames it to ``path`` at the end.

    Makes the folder if necessary. If the block raises, ``path`` stays as it was. Nothing is synced
    to disk, so the guarantee holds for killed processes, not for power failures.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp made it private
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes readable JSON with a ``checksum``; equal values give equal bytes.

    Raises:
        ValueError: ``value`` contains nan or infinity.
    """
    # Through JSON first, which turns keys into strings: the checksum must be that of what is read.
    plain = json.loads(json.dumps(value, allow_nan=False))
    with replacing(path) as temporary:
        text = json.dumps(plain | {"checksum": digest(plain)}, indent=1, sort_keys=True)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a file that :func:`write_json` wrote, without its checksum.

    Raises:
        DamagedError: the file is missing, or not what :func:`write_json` wrote.
    """
    try:
        value = json.loads(path.read_bytes())
        if value.pop("checksum") != digest(value):
            raise DamagedError(path, "checksum mismatch")
    except FileNotFoundError as error:
        raise DamagedError(path, "there is no such file") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(path, f"not a checksummed JSON file ({error})") from error
    return value


def write_bytes(path: Path, content: bytes) -> str:
    """Writes a file atomically; returns its SHA-256 in lower-case hexadecimal."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def write_digest(note: Path, path: Path, digest: str) -> None:
    """Writes the digest of ``path``, in the same folder as ``note``, in the format of sha256sum."""
    write_bytes(note, f"{digest}  {path.name}\n".encode())


def check_noted(path: Path, note: Path) -> str:
    """Returns the digest that :func:`write_digest` wrote for ``path``.

    Raises:
        DamagedError: ``path`` has another digest.
    """
    digest = note.read_text(encoding="utf-8").partition(" ")[0]
    check(path, digest)
    return digest


def check(path: Path, expected: str) -> None:
    """Checks the SHA-256 of a file.

    Raises:
        DamagedError: it differs from ``expected``, in lower-case hexadecimal.
    """
    if (found := sha256(path)) != expected:
        raise DamagedError(path, f"checksum mismatch: its sha256 is {found}, expected {expected}")


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
