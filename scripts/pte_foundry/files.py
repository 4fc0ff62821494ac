"""Writing results so that nobody ever sees half of one, or takes a damaged one for whole."""

import hashlib
import json
import mmap
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
    """Yields a temporary path beside ``path`` that takes its place when the block ends well."""
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


def map_file(path: Path) -> memoryview:
    """A file's bytes, read from disk as they are used; until then the file must not change."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return memoryview(b"")  # an empty file cannot be mapped
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes JSON that a person can read and that is the same every time, with a ``checksum``."""
    # Through JSON first: what is not text there, a key for example, is when it is read again.
    plain = json.loads(json.dumps(value, allow_nan=False))
    with replacing(path) as temporary:
        text = json.dumps(plain | {"checksum": digest(plain)}, indent=1, sort_keys=True)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Reads what :func:`write_json` wrote. Raises DamagedError if it is something else."""
    try:
        value = json.loads(path.read_bytes())
        if value.pop("checksum") != digest(value):
            raise DamagedError(path, "its content is not that of its checksum")
    except FileNotFoundError as error:
        raise DamagedError(path, "there is no such file") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(path, f"no JSON with a checksum ({error})") from error
    return value


def write_bytes(path: Path, content: bytes) -> str:
    """Writes a file; returns its SHA-256 digest."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def write_digest(note: Path, path: Path, digest: str) -> None:
    """Notes the digest of ``path``, which lies beside ``note``, as ``sha256sum`` does."""
    write_bytes(note, f"{digest}  {path.name}\n".encode())


def check_noted(path: Path, note: Path) -> str:
    """The digest that :func:`write_digest` noted. Raises DamagedError unless the file has it."""
    digest = note.read_text(encoding="utf-8").partition(" ")[0]
    check(path, digest)
    return digest


def check(path: Path, expected: str) -> None:
    """Raises DamagedError unless the file has this SHA-256 digest."""
    if (found := sha256(path)) != expected:
        raise DamagedError(path, f"its sha256 is {found}, and it was made with {expected}")


def sha256(path: Path) -> str:
    """The file's SHA-256 digest in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
