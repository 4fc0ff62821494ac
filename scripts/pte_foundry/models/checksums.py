"""Checksums of torch programs and tensors on disk, without loading torch."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from pte_foundry.errors import DamagedError
from pte_foundry.files import unreadable

# A program is a zip archive, whose comment holds the SHA-256 of everything before it, in
# hexadecimal (models.programs).
DIGEST_SIZE = 64

_CHUNK = 1 << 20
# safetensors' names of dtypes, and torch's.
_DTYPES = {
    "BOOL": "torch.bool",
    "U8": "torch.uint8",
    "U16": "torch.uint16",
    "U32": "torch.uint32",
    "U64": "torch.uint64",
    "I8": "torch.int8",
    "I16": "torch.int16",
    "I32": "torch.int32",
    "I64": "torch.int64",
    "F16": "torch.float16",
    "BF16": "torch.bfloat16",
    "F32": "torch.float32",
    "F64": "torch.float64",
    "C64": "torch.complex64",
    "F8_E4M3": "torch.float8_e4m3fn",
    "F8_E4M3FNUZ": "torch.float8_e4m3fnuz",
    "F8_E5M2": "torch.float8_e5m2",
    "F8_E5M2FNUZ": "torch.float8_e5m2fnuz",
}


def check_program(path: Path) -> None:
    """Checks a ``.pt2`` that ``models.programs.save`` wrote. Raises DamagedError."""
    _check(path, _program_is_whole)


def check_tensors(path: Path) -> None:
    """Checks a file that ``models.tensors.save_tensors`` wrote. Raises DamagedError."""
    _check(path, _tensors_are_whole)


def _check(path: Path, whole: Callable[[BinaryIO, int], bool]) -> None:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            found = whole(file, size)
    except OSError as error:
        raise DamagedError(path, unreadable(error)) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(path, f"it has no readable checksum ({error!r})") from error
    if not found:
        raise DamagedError(path, "checksum mismatch")


def _update(digest: "hashlib._Hash", file: BinaryIO, size: int) -> None:
    """Adds the next ``size`` bytes of a file to a digest."""
    while size:
        part = file.read(min(size, _CHUNK))
        if not part:
            raise ValueError("the file is too short")
        digest.update(part)
        size -= len(part)


def _program_is_whole(file: BinaryIO, size: int) -> bool:
    digest = hashlib.sha256()
    _update(digest, file, max(size - DIGEST_SIZE, 0))
    return file.read() == digest.hexdigest().encode()


def _tensors_are_whole(file: BinaryIO, size: int) -> bool:
    length = int.from_bytes(file.read(8), "little")
    if length > size:
        raise ValueError(f"a header of {length} bytes in a file of {size}")
    header = json.loads(file.read(length))
    expected = header.pop("__metadata__")["checksum"]
    digest, end = hashlib.sha256(), 0
    for name, tensor in sorted(header.items()):
        shape, (first, last) = tuple(tensor["shape"]), tensor["data_offsets"]
        digest.update(f"{name} {_DTYPES[tensor['dtype']]} {shape}\n".encode())
        file.seek(8 + length + first)
        _update(digest, file, last - first)
        end = max(end, last)
    return digest.hexdigest() == expected and 8 + length + end == size
