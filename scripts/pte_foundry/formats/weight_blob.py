"""Reader of ``weight.bin``, Core ML's MIL Blob Storage (version 2).

The file is a 64-byte header followed by 64-byte-aligned pairs of a metadata record and its data
(coremltools, ``mlmodel/src/MILBlob/Blob/StorageFormat.hpp`` and ``BlobDataType.hpp``). A program
refers to a weight by the offset of its metadata. Nothing in the file is trusted.
"""

import math
import mmap
import struct
from functools import cache
from pathlib import Path

import numpy as np

from pte_foundry.errors import ProgramError
from pte_foundry.files import map_file
from pte_foundry.formats.dtypes import BY_NAME, DType

_HEADER = struct.Struct("<II56x")  # count of blobs, version of the format
_METADATA = struct.Struct("<IIQQQ32x")  # sentinel, dtype, size and offset in bytes, padding bits
_SENTINEL = 0xDEADBEEF
_VERSION = 2
_ALIGNMENT = 64
# How many groups of bytes are unpacked at a time.
_PIECE = 1 << 15
# How much of a mapped file may stay in memory after it was read.
_KEEP_BYTES = 1 << 22
_DTYPES = {
    1: "fp16",
    2: "fp32",
    3: "uint8",
    4: "int8",
    5: "bf16",
    6: "int16",
    7: "uint16",
    8: "int4",
    9: "uint1",
    10: "uint2",
    11: "uint4",
    12: "uint3",
    13: "uint6",
    14: "int32",
    15: "uint32",
    16: "fp8e4m3fn",
    17: "fp8e5m2",
}


def unpack_bits(packed: np.ndarray, bits: int, count: int, signed: bool = False) -> np.ndarray:
    """Unpacks ``count`` integers of ``bits`` bits, least significant bit first, into bytes.

    Args:
        packed: uint8, shape ``[ceil(count * bits / 8)]``.

    Returns:
        uint8 or, when ``signed``, sign-extended int8, shape ``[count]``.
    """
    tables = _tables(bits, signed)
    group = len(tables)
    values = np.zeros(-(-len(packed) // group), tables.dtype)
    # Piece by piece, for numpy makes eight bytes of every index.
    for start in range(0, len(values), _PIECE):
        piece = packed[start * group : (start + _PIECE) * group]
        for place, table in enumerate(tables):
            found = table.take(piece[place::group])
            values[start : start + len(found)] |= found
    return values.view(np.int8 if signed else np.uint8)[:count]


@cache
def _tables(bits: int, signed: bool) -> np.ndarray:
    """What each byte of a group contributes to the values that the group holds.

    A group is one byte, or three for three or six bits: they hold a whole number of values. Those
    are the bytes of one word, so that the words of a group's bytes only have to be put together.

    Returns:
        shape ``[bytes of a group, 256]``.
    """
    group = 1 if 8 % bits == 0 else 3
    count = 8 * group // bits
    bytes_ = np.arange(256, dtype=np.uint32) << 8 * np.arange(group, dtype=np.uint32)[:, None]
    values = bytes_[..., None] >> bits * np.arange(count, dtype=np.uint32) & np.uint32(2**bits - 1)
    if signed:  # a group of one byte
        values = np.where(values >> (bits - 1), values | np.uint32(256 - 2**bits), values)
    return values.astype(np.uint8).view(f"u{count}")[..., 0]


def bytes_needed(dtype: DType, count: int) -> int:
    return math.ceil(dtype.bits * count / 8)


class BlobFile:
    """The weights of one program, read where they lie: from a mapped file or from memory."""

    def __init__(self, source: Path | bytes | memoryview):
        """
        Raises:
            ProgramError: the file is too short for a header or is of another version.
        """
        view = map_file(source) if isinstance(source, Path) else memoryview(source)
        self._mapped = view.obj if isinstance(view.obj, mmap.mmap) else None
        self._read_bytes = 0
        self._data = np.frombuffer(view, np.uint8)
        if len(self._data) < _HEADER.size:
            raise ProgramError(f"weight.bin has {len(self._data)} bytes, less than its header")
        _, version = _HEADER.unpack_from(self._data)
        if version != _VERSION:
            raise ProgramError(f"weight.bin has version {version}, only {_VERSION} is known")

    def read(self, offset: int, dtype: DType, count: int) -> np.ndarray:
        """Reads ``count`` elements of the blob whose metadata begins at ``offset``.

        Returns:
            A flat array in memory of its own: of ``count`` bytes for types below eight bits, else
            of raw bytes (uint8, ``count * dtype.bits / 8`` of them).

        Raises:
            ProgramError: the blob lies outside the file or is not what the program declares.
        """
        where = f"weight.bin at offset {offset}"
        if offset % _ALIGNMENT or offset + _METADATA.size > len(self._data):
            raise ProgramError(f"{where}: no metadata can begin there")
        sentinel, code, size, begin, _ = _METADATA.unpack_from(self._data, offset)
        if sentinel != _SENTINEL:
            raise ProgramError(f"{where}: no metadata begins there (sentinel {sentinel:#x})")
        if _DTYPES.get(code) != dtype.name:
            found = _DTYPES.get(code, f"unknown type {code}")
            raise ProgramError(f"{where}: holds {found}, the program declares {dtype.name}")
        if size != bytes_needed(dtype, count):
            raise ProgramError(
                f"{where}: holds {size} bytes, {count} of {dtype.name} need "
                f"{bytes_needed(dtype, count)}"
            )
        if begin % _ALIGNMENT or begin + size > len(self._data):
            raise ProgramError(f"{where}: its {size} bytes at {begin} lie outside the file")
        raw = self._data[begin : begin + size]
        if dtype.bits < 8:
            values = unpack_bits(raw, dtype.bits, count, signed=dtype is BY_NAME["int4"])
        else:
            values = raw.copy()
        self._forget(size)
        return values

    def _forget(self, size: int) -> None:
        """Lets go of a mapped file's pages: what was read is not wanted a second time."""
        self._read_bytes += size
        if self._mapped is not None and self._read_bytes > _KEEP_BYTES:
            self._mapped.madvise(mmap.MADV_DONTNEED)
            self._read_bytes = 0
