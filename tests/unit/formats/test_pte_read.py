"""Protects reading: equal to upstream's reader, and nothing but ProgramError for damaged files."""

from __future__ import annotations

import struct
from dataclasses import fields, is_dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pte_foundry.errors import ProgramError
from pte_foundry.formats import pte_schema
from pte_foundry.formats.inspect_pte import describe
from pte_foundry.formats.pte_file import read_pte
from pte_foundry.pte import Pte


def assert_same(ours: object, theirs: object) -> None:
    """Compare with upstream's dataclasses, which write absent lists and texts as None."""
    if is_dataclass(ours):
        assert type(ours).__name__ == type(theirs).__name__
        assert {f.name for f in fields(ours)} == {f.name for f in fields(theirs)}
        for field in fields(ours):
            assert_same(getattr(ours, field.name), getattr(theirs, field.name))
    elif isinstance(ours, list):
        assert len(ours) == len(theirs or [])
        for one, other in zip(ours, theirs or [], strict=True):
            assert_same(one, other)
    elif isinstance(ours, memoryview):
        assert bytes(ours) == bytes(theirs or b"")
    else:
        assert ours == (type(ours)() if theirs is None and ours is not None else theirs)


@pytest.mark.parametrize("name", ["first", "partial", "inline", "portable", "stateful"])
def test_equal_to_upstreams_reader(small, name):
    from executorch.exir._serialize._flatbuffer_program import _flatbuffer_to_program

    assert_same(read_pte(small[name]).program, _flatbuffer_to_program(small[name]))


def test_data_equal_to_upstreams(small, shared):
    from executorch.exir._serialize._program import deserialize_pte_binary

    ours, theirs = read_pte(small["partial"]), deserialize_pte_binary(small["partial"]).program
    for mine, other in zip(
        ours.plans["forward"].delegates, theirs.execution_plan[0].delegates, strict=True
    ):
        assert ours.delegate_data(mine) == theirs.backend_delegate_data[other.processed.index].data
    ours, parsed = read_pte(small["portable"]), deserialize_pte_binary(small["portable"])
    for index, buffer in enumerate(parsed.program.constant_buffer):
        assert ours.constant(index, len(buffer.storage)) == buffer.storage
    with pytest.raises(ProgramError, match="constant 99"):
        ours.constant(99, 1)
    with pytest.raises(ProgramError, match="constant 1 "):
        ours.constant(1, 1 << 40)
    named = deserialize_pte_binary(shared).named_data
    assert {key: bytes(data) for key, data in read_pte(shared).named_data.items()} == {
        key: named.buffers[entry.buffer_index] for key, entry in named.pte_data.items()
    }


@pytest.mark.parametrize("length", [0, 3, 7, 8, 20, 40, 100, 300, 1000, -1000, -1])
def test_truncated_files(small, length):
    with pytest.raises(ProgramError):
        read_pte(small["first"][:length])


def test_a_header_that_contradicts_the_file_is_refused(small):
    def overwrite(at: int, code: str, value: int) -> bytes:
        return small["first"][:at] + struct.pack(code, value) + small["first"][at + 8 :]

    for at in (16, 24, 32):  # sizes of program, offset and size of segments
        for value in (1, 1 << 20, 1 << 63):
            with pytest.raises(ProgramError):
                read_pte(overwrite(at, "<Q", value))
    with pytest.raises(ProgramError, match="not an ExecuTorch program"):
        read_pte(b"\0\0\0\0ZIPF" + bytes(100))


def test_sharing_cannot_multiply_work():
    """A few kilobytes whose vectors all point to the same tables: a million values."""
    count = 1000
    data = bytearray(b"\0\0\0\0ET12" + bytes(56))

    def table(*slots: int) -> int:
        """A table of offsets to the given positions; 0 is an absent field."""
        vtable = len(data)
        size = 4 + 4 * len(slots)
        places = [4 + 4 * i if slot else 0 for i, slot in enumerate(slots)]
        data.extend(struct.pack(f"<HH{len(slots)}H", 4 + 2 * len(slots), size, *places))
        data.extend(bytes(-len(data) % 4))
        position = len(data)
        data.extend(struct.pack("<i", position - vtable))
        for index, slot in enumerate(slots):
            data.extend(struct.pack("<i", slot - (position + 4 + 4 * index) & 0x7FFFFFFF))
        return position

    def patch(at: int, to: int) -> None:
        data[at : at + 4] = struct.pack("<I", to - at)

    # Offsets point forward, so parents are laid out first and patched when children are known.
    root = table(0, 1)
    struct.pack_into("<I", data, 0, root)
    plans = len(data)
    data.extend(struct.pack("<I", count) + bytes(4 * count))
    patch(root + 8, plans)
    plan = table(0, 0, 1)
    for index in range(count):
        patch(plans + 4 + 4 * index, plan)
    values = len(data)
    data.extend(struct.pack("<I", count) + bytes(4 * count))
    patch(plan + 12, values)
    value = table(0)
    for index in range(count):
        patch(values + 4 + 4 * index, value)
    with pytest.raises(ProgramError, match="decode budget"):
        read_pte(bytes(data))


def test_indices_are_checked(small):
    file = read_pte(small["partial"])
    plan = file.plans["forward"]
    from pte_foundry.formats.pte_file import _check_plan

    for call in (
        pte_schema.KernelCall(1, [0]),
        pte_schema.KernelCall(0, [99]),
        pte_schema.KernelCall(0, [-1]),
        pte_schema.DelegateCall(2, []),
        pte_schema.MoveCall(0, 99),
        pte_schema.JumpFalseCall(0, 99),
        pte_schema.FreeCall(-1),
        None,
    ):
        plan.chains[0].instructions[0].instr_args = call
        with pytest.raises(ProgramError):
            _check_plan(plan)


EDITS = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=6)


def check_damaged(small, name, edits, near, kept):
    """Flipped bytes anywhere, most of them in the flatbuffer, where they hurt."""
    damaged = bytearray(small[name])
    for place, byte in edits:
        damaged[place % (1200 if near else len(damaged))] = byte
    damaged = bytes(damaged[: int(kept * len(damaged)) + 1])
    try:
        program = Pte.load(damaged)
        describe(damaged)
        for delegate in program.delegates:
            if delegate.backend_id == "CoreMLBackend":
                assert sum(map(len, delegate.files.values())) <= len(damaged)
    except ProgramError:
        pass


damaged = given(
    name=st.sampled_from(["first", "partial", "portable", "inline"]),
    edits=EDITS,
    near=st.booleans(),
    kept=st.sampled_from([1.0, 1.0, 1.0, 0.99, 0.9, 0.5, 0.1]),
)


@settings(max_examples=400, derandomize=True, deadline=None)
@damaged
def test_damaged_programs_give_only_our_errors(small, name, edits, near, kept):
    check_damaged(small, name, edits, near, kept)


@pytest.mark.slow
@settings(max_examples=6000, derandomize=True, deadline=None)
@damaged
def test_many_damaged_programs_give_only_our_errors(small, name, edits, near, kept):
    check_damaged(small, name, edits, near, kept)
