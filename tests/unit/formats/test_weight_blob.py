"""The weight file: what coremltools writes is read back, and everything in it is checked."""

import struct

import numpy as np
import pytest
from pte_foundry.errors import ProgramError
from pte_foundry.formats import weight_blob as blob_file
from pte_foundry.formats.mil_dtypes import BY_NAME
from pte_foundry.formats.weight_blob import BlobFile, unpack_bits


def blob(data: bytes, code: int, *, sentinel=0xDEADBEEF, size=None, begin=128, version=2) -> bytes:
    """A weight file with one blob, its metadata at 64."""
    size = len(data) if size is None else size
    header = struct.pack("<II56x", 1, version)
    return header + struct.pack("<IIQQQ32x", sentinel, code, size, begin, 0) + data


FOUR = np.arange(4, dtype=np.float32).tobytes()


def test_reads_a_blob_from_memory_and_from_a_file(tmp_path):
    path = tmp_path / "weight.bin"
    path.write_bytes(blob(FOUR, 2))
    for source in (path, path.read_bytes()):
        raw = BlobFile(source).read(64, BY_NAME["fp32"], 4)
        assert raw.view(np.float32).tolist() == [0, 1, 2, 3]
        raw[:] = 0  # ours to change, yet the file stays
    assert path.read_bytes() == blob(FOUR, 2)


@pytest.mark.parametrize(
    ("file", "offset", "dtype", "count", "message"),
    [
        (b"", 64, "fp32", 4, "expected 64 or more"),
        (blob(FOUR, 2, version=1), 64, "fp32", 4, "version 1"),
        (blob(FOUR, 2), 65, "fp32", 4, "not a multiple"),
        (blob(FOUR, 2), 2**63, "fp32", 4, "not a multiple"),
        (blob(FOUR, 2, sentinel=1), 64, "fp32", 4, "sentinel 0x1"),
        (blob(FOUR, 2), 0, "fp32", 4, "sentinel"),
        (blob(FOUR, 1), 64, "fp32", 4, "found fp16, the program declares fp32"),
        (blob(FOUR, 99), 64, "fp32", 4, "unknown type 99"),
        (blob(FOUR, 2), 64, "fp32", 3, "found 16 bytes, expected 12 for 3 of fp32"),
        (blob(FOUR, 2, size=2**40), 64, "fp32", 2**38, "outside of the file"),
        (blob(FOUR, 2, begin=192), 64, "fp32", 4, "outside of the file"),
        (blob(FOUR, 2, begin=130), 64, "fp32", 4, "outside of the file"),
    ],
)
def test_a_damaged_file_is_refused(file, offset, dtype, count, message):
    with pytest.raises(ProgramError, match=message):
        BlobFile(file).read(offset, BY_NAME[dtype], count)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6])
def test_unpacking_agrees_with_coremltools(bits):
    from coremltools.optimize import _utils

    values = np.random.default_rng(bits).integers(0, 2**bits, 37).astype(np.uint8)
    packed = _utils.pack_elements_into_bits(values, bits)
    np.testing.assert_array_equal(unpack_bits(packed, bits, 37), values)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("count", [1, 8, 41, 960, 997])
def test_unpacking_goes_on_right_from_piece_to_piece(monkeypatch, bits, count):
    monkeypatch.setattr(blob_file, "_PIECE", 5)
    values = np.random.default_rng(bits).integers(0, 2**bits, count).astype(np.uint8)
    each = values[:, None] >> np.arange(bits, dtype=np.uint8) & 1
    packed = np.packbits(each.reshape(-1), bitorder="little")
    np.testing.assert_array_equal(unpack_bits(packed, bits, count), values)


def test_signed_integers_are_sign_extended():
    packed = np.array([0x8F, 0x70], np.uint8)  # -1, -8, 0, 7
    assert unpack_bits(packed, 4, 4, signed=True).tolist() == [-1, -8, 0, 7]
