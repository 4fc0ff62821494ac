"""Reader of ``weight.bin``, Core ML's MIL Blob Storage (version 2).

The file is a 64-byte header followed by 64-byte-aligned pairs of a metadata record and its data
(coremltools 9.0, ``mlmodel/src/MILBlob/Blob/StorageFormat.hpp`` and ``BlobDataType.hpp``). A
program refers to a weight by the offset of its metadata. The file is untrusted: offsets, sizes and
dtypes are checked against the program and the file.
"""

import math
import mmap
import struct
from functools import cache
from pathlib import Path

import numpy as np

from pte_foundry.errors import ProgramError
from pte_foundry.formats.mil_dtypes import BY_NAME, DType
from pte_foundry.formats.untrusted import map_file

_HEADER = struct.Struct("<II56x")  # count of blobs, version of the format
_METADATA = struct.Struct("<IIQQQ32x")  # sentinel, dtype, size and offset in bytes, padding bits
_SENTINEL = 0xDEADBEEF
_VERSION = 2
_ALIGNMENT = 64
# Groups of bytes that are unpacked at a time.
_PIECE = 1 << 15
# Bytes of a mapped file that may stay in memory after they were read.
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
    """Unpack ``count`` integers of ``bits`` bits, least significant bit first, into bytes.

    Args:
        packed: uint8, shape ``[ceil(count * bits / 8)]``.

    Returns:
        uint8 or, when ``signed``, sign-extended int8, shape ``[count]``.
    """
    tables = _tables(bits, signed)
    group = len(tables)
    values = np.zeros(-(-len(packed) // group), tables.dtype)
    # Piece by piece: numpy converts every index to eight bytes.
    for start in range(0, len(values), _PIECE):
        piece = packed[start * group : (start + _PIECE) * group]
        for place, table in enumerate(tables):
            found = table.take(piece[place::group])
            values[start : start + len(found)] |= found
    return values.view(np.int8 if signed else np.uint8)[:count]


@cache
def _tables(bits: int, signed: bool) -> np.ndarray:
    """Lookup tables from a byte of a group to its contribution to the group's values.

    A group is the smallest run of bytes with a whole number of values: one byte, or three for
    values of three or six bits. A group's values are the bytes of one word, which is the bitwise or
    of the entries of the group's bytes.

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
    """Bytes of ``count`` packed elements."""
    return math.ceil(dtype.bits * count / 8)


class BlobFile:
    """The weights of one program.

    Args:
        source: a path, which is mapped into memory, or the file's bytes.

    Raises:
        ProgramError: the file is too short for a header or of an unknown version.
    """

    def __init__(self, source: Path | bytes | memoryview):
        view = map_file(source) if isinstance(source, Path) else memoryview(source)
        self._mapped = view.obj if isinstance(view.obj, mmap.mmap) else None
        self._read_bytes = 0
        self._data = np.frombuffer(view, np.uint8)
        if len(self._data) < _HEADER.size:
            raise ProgramError(
                f"weight.bin has {len(self._data)} bytes, expected {_HEADER.size} or more"
            )
        _, version = _HEADER.unpack_from(self._data)
        if version != _VERSION:
            raise ProgramError(f"weight.bin has version {version}, expected {_VERSION}")

    def read(self, offset: int, dtype: DType, count: int) -> np.ndarray:
        """Read ``count`` elements of the blob whose metadata begins at ``offset``.

        Returns:
            A flat array in memory of its own: for types below eight bits one byte an element
            (uint8, or int8 for int4), else raw bytes (uint8, ``count * dtype.bits / 8``).

        Raises:
            ProgramError: the blob is outside of the file, or does not match the declaration.
        """
        where = f"weight.bin at offset {offset}"
        if offset % _ALIGNMENT or offset + _METADATA.size > len(self._data):
            raise ProgramError(f"{where}: outside of the file, or not a multiple of {_ALIGNMENT}")
        sentinel, code, size, begin, _ = _METADATA.unpack_from(self._data, offset)
        if sentinel != _SENTINEL:
            raise ProgramError(
                f"{where}: no metadata: sentinel {sentinel:#x}, expected {_SENTINEL:#x}"
            )
        if _DTYPES.get(code) != dtype.name:
            found = _DTYPES.get(code, f"unknown type {code}")
            raise ProgramError(f"{where}: found {found}, the program declares {dtype.name}")
        if size != bytes_needed(dtype, count):
            raise ProgramError(
                f"{where}: found {size} bytes, expected {bytes_needed(dtype, count)} for {count} "
                f"of {dtype.name}"
            )
        if begin % _ALIGNMENT or begin + size > len(self._data):
            raise ProgramError(f"{where}: its {size} bytes at {begin} are outside of the file")
        raw = self._data[begin : begin + size]
        if dtype.bits < 8:
            values = unpack_bits(raw, dtype.bits, count, signed=dtype is BY_NAME["int4"])
        else:
            values = raw.copy()
        self._forget(size)
        return values

    def _forget(self, size: int) -> None:
        """Release the pages of a mapped file: a weight is read once."""
        self._read_bytes += size
        if self._mapped is not None and self._read_bytes > _KEEP_BYTES:
            self._mapped.madvise(mmap.MADV_DONTNEED)
            self._read_bytes = 0
