"""Atomic writes, and checksums that detect truncated or modified files."""

import errno
import hashlib
import json
import os
import platform
import re
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from pte_foundry.canonical_json import digest
from pte_foundry.errors import DamagedError

_TEMPORARY = ".pte-foundry-tmp-"
_NAME = re.compile(rf"{re.escape(_TEMPORARY)}([0-9a-f]{{8}})-[a-z0-9_]{{8}}(\.\w*)?")
_DAY = 24 * 60 * 60  # seconds


@cache
def _place() -> str:
    """Identifies the processes that this one can see: a container or host."""
    return hashlib.sha256(f"{platform.node()} {process_table()}".encode()).hexdigest()[:8]


def process_table() -> str:
    """Identifies the process table that this process is in; empty if the system has only one."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:  # not on Linux
        return ""


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one that :func:`replacing` writes, and not a result."""
    return _NAME.fullmatch(name) is not None


def is_abandoned(path: Path) -> bool:
    """Whether a file is what a killed process has left of a :func:`replacing`.

    By its name, which nothing else has, and its place: call it when no process of this container or
    host writes into the folder. A file from elsewhere may be of a job on a cluster that still runs,
    so it must be a day old.
    """
    found = _NAME.fullmatch(path.name)
    try:
        status = path.lstat() if found else None
    except FileNotFoundError:
        return False
    if status is None or not stat.S_ISREG(status.st_mode):
        return False
    return found[1] == _place() or status.st_mtime < time.time() - _DAY


@contextmanager
def replacing(path: Path, *, durable: bool = False, keep_mode: bool = False) -> Iterator[Path]:
    """Writes a file atomically: yields a temporary path, and renames it to ``path`` at the end.

    Makes the folder if necessary. If the block raises, ``path`` stays as it was.

    Args:
        path: the file.
        durable: also hold the guarantee for a power failure, after which other files may be empty
            although they have their name and date. It costs the time that the disk takes to write
            the file, on ext4 some 8 ms for a small one: half a second in the default build. For
            what people keep, and for what is slow to get again; intermediates have checksums, so
            that a damaged one is detected and rebuilt.
        keep_mode: who may read and write the file stays as it is, if there is one.
    """
    made = _make_folders(path.parent)
    suffix = path.suffix if re.fullmatch(r"\.\w*", path.suffix) else ""
    handle, name = tempfile.mkstemp(suffix, f"{_TEMPORARY}{_place()}-", path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(_mode(path if keep_mode else None))  # mkstemp made it private
        rename(temporary, path, durable=durable)
        if durable:
            for folder in made:
                sync(folder.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _mode(path: Path | None) -> int:
    """The permissions of a file; None, or no such file: those of a new one."""
    if path is not None and path.exists():
        return stat.S_IMODE(path.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def rename(temporary: Path, path: Path, *, durable: bool) -> None:
    """Renames a complete file to ``path`` in the same folder; see :func:`replacing`."""
    if durable:  # the content first: a disk may write the new name before it
        sync(temporary)
    temporary.replace(path)
    if durable:
        sync(path.parent)


def sync(path: Path) -> None:
    """Waits until the disk has the content of a file, or the names in a folder (fsync(2))."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot do it, for folders above all.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


def _make_folders(folder: Path) -> list[Path]:
    """Makes a folder and those above it; returns the new ones, the deepest first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def write_json(path: Path, value: Mapping[str, Any], *, durable: bool = False) -> None:
    """Writes readable JSON with a ``checksum``; equal values give equal bytes.

    Args:
        path: the file.
        value: the content.
        durable: as in :func:`replacing`.

    Raises:
        ValueError: ``value`` contains nan or infinity.
    """
    # Through JSON first, which turns keys into strings: the checksum must be that of what is read.
    plain = json.loads(json.dumps(value, allow_nan=False))
    with replacing(path, durable=durable) as temporary:
        temporary.write_text(_rendered(plain), encoding="utf-8")


def _rendered(plain: Mapping[str, Any]) -> str:
    return json.dumps({**plain, "checksum": digest(plain)}, indent=1, sort_keys=True) + "\n"


def check_json(path: Path) -> None:
    """Checks that a file is exactly what :func:`write_json` wrote: the value, and every byte.

    Raises:
        DamagedError: it is not.
    """
    if _rendered(read_json(path)).encode() != path.read_bytes():
        raise DamagedError(path, "its value is right, but not its bytes")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a file that :func:`write_json` wrote, without its checksum.

    Raises:
        DamagedError: the file is missing, or not what :func:`write_json` wrote.
    """
    try:
        value = json.loads(path.read_bytes())
        if value.pop("checksum") != digest(value):
            raise DamagedError(path, "checksum mismatch")
    except OSError as error:
        raise DamagedError(path, unreadable(error)) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(path, f"not a checksummed JSON file ({error})") from error
    return value


def write_bytes(path: Path, content: bytes, *, durable: bool = False) -> str:
    """Writes a file atomically, as :func:`replacing` does; returns its SHA-256 in hexadecimal."""
    with replacing(path, durable=durable) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def write_digest(note: Path, path: Path, digest: str) -> None:
    """Writes the digest of ``path``, in the same folder as ``note``, in the format of sha256sum."""
    write_bytes(note, f"{digest}  {path.name}\n".encode(), durable=True)


def check_noted(path: Path, note: Path) -> str:
    """Returns the digest that :func:`write_digest` wrote for ``path``.

    Raises:
        DamagedError: ``path`` has another digest, or one of the two cannot be read.
    """
    try:
        digest, _, name = note.read_text(encoding="utf-8").removesuffix("\n").partition("  ")
    except (OSError, ValueError) as error:
        raise DamagedError(note, unreadable(error)) from error
    if not re.fullmatch(r"[0-9a-f]{64}", digest) or name != path.name:
        raise DamagedError(note, f"not the digest of {path.name} as sha256sum writes it")
    check(path, digest)
    return digest


def check(path: Path, expected: str) -> None:
    """Checks the SHA-256 of a file.

    Raises:
        DamagedError: it differs from ``expected``, in lower-case hexadecimal, or the file cannot be
            read.
    """
    try:
        found = sha256(path)
    except OSError as error:
        raise DamagedError(path, unreadable(error)) from error
    if found != expected:
        raise DamagedError(path, f"checksum mismatch: its sha256 is {found}, expected {expected}")


def base_of(path: Path, name: str) -> Path:
    """Returns the folder that the paths of results start from, by where one of them lies.

    That is the current folder, or with a storage provider the folder of its local copies.

    Args:
        path: the file.
        name: its path among the results, such as ``results/summary.json``.
    """
    parts = Path(name).parts
    return Path(*path.parts[: -len(parts)]) if path.parts[-len(parts) :] == parts else Path()


def seen_from(base: Path, path: Path) -> str:
    """Returns the path of a result as it is among the results that start from ``base``."""
    return (path.relative_to(base) if path.is_relative_to(base) else path).as_posix()


def base_of_artifact(path: Path) -> Path:
    """Returns the folder that ``results/pte/<model>/<recipe>/<target>.pte`` starts from."""
    return base_of(path, "/".join(["results/pte", *path.parts[-3:]]))


def unreadable(error: Exception) -> str:
    """Returns in words why a file could not be read: a folder in its place, a failing disk …"""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return getattr(error, "strerror", None) or str(error)


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
