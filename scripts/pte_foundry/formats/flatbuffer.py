"""Reader of FlatBuffers whose schema is written as Python dataclasses.

executorch's generated reader trusts its input, raises the errors of ``struct``, and takes seconds
to import. This one checks every bound, and the size of the buffer limits its time and memory.
Format: https://flatbuffers.dev/internals/

A table is a dataclass whose fields are in the order of the schema, annotated with

- a scalar, for example :data:`Int32`, or ``bool``;
- ``str``; ``bytes`` (a vector of bytes, read as a read-only ``memoryview``, not a copy);
- another table, possibly ``| None``; a union of several tables, which is a FlatBuffers union whose
  members are numbered from 1 in the order written;
- ``list`` of one of these.

Absent scalars are 0, absent vectors and strings are empty: executorch's schemas use no other
defaults.
"""

from __future__ import annotations

import dataclasses
import struct
import types
import typing
from functools import cache
from typing import Annotated, Any, TypeVar

from pte_foundry.errors import ProgramError

Int8 = Annotated[int, "<b"]
UInt8 = Annotated[int, "<B"]
Int32 = Annotated[int, "<i"]
UInt32 = Annotated[int, "<I"]
Int64 = Annotated[int, "<q"]
UInt64 = Annotated[int, "<Q"]
Float64 = Annotated[float, "<d"]

T = TypeVar("T")

MAX_BUDGET = 1 << 26
"""Limit on the elements of a tree, whatever the size of the file: it may be sparse."""


def read(data: memoryview, root: type[T]) -> T:
    """Decode a finished buffer, whose first four bytes are the offset of the root table.

    Args:
        root: the dataclass of the root table.

    Raises ProgramError if an offset leaves the buffer, a type or a string is malformed, or tables
    are shared so often that the result would be larger than the buffer.
    """
    reader = _Reader(data)
    return reader.table(reader.reference(0), root)


@cache
def _fields(table: type) -> tuple[tuple[str, int, Any], ...]:
    """Name, slot in the vtable, and type of every field; for a union, the slot of its tag."""
    hints = typing.get_type_hints(table, include_extras=True)
    fields, slot = [], 0
    for field in dataclasses.fields(table):
        kind = hints[field.name]
        fields.append((field.name, slot, kind))
        slot += 2 if _members(kind) else 1
    return tuple(fields)


@cache
def _members(kind: Any) -> tuple[type, ...]:
    """The tables of a FlatBuffers union; empty for anything else, ``X | None`` included."""
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return ()
    members = tuple(member for member in typing.get_args(kind) if member is not types.NoneType)
    return members if len(members) > 1 else ()


@cache
def _format(kind: Any) -> str | None:
    """The ``struct`` code of a scalar, or None."""
    if kind is bool:
        return "<?"
    return kind.__metadata__[0] if typing.get_origin(kind) is Annotated else None


class _Reader:
    def __init__(self, data: memoryview) -> None:
        self.data = data.toreadonly()
        # Every element of a tree takes at least one byte, so a tree stays below this budget.
        # Sharing tables and strings is legal; nested sharing can turn 17 kB into a billion objects.
        self.budget = min(2 * len(data) + 4096, MAX_BUDGET)

    def spend(self, amount: int) -> None:
        self.budget -= amount
        if self.budget < 0:
            raise ProgramError("shared tables exceed the decode budget: the program is damaged")

    def unpack(self, code: str, at: int) -> Any:
        if at < 0 or at + struct.calcsize(code) > len(self.data):
            raise ProgramError(f"offset {at} is outside of the program's {len(self.data)} bytes")
        return struct.unpack_from(code, self.data, at)[0]

    def reference(self, at: int) -> int:
        """Follow the offset stored at ``at``; offsets are relative and point forward."""
        return at + self.unpack("<I", at)

    def table(self, at: int, kind: type[T]) -> T:
        self.spend(4)
        vtable = at - self.unpack("<i", at)
        vtable_size = self.unpack("<H", vtable)
        size = self.unpack("<H", vtable + 2)
        if vtable_size < 4 or vtable_size % 2 or at + size > len(self.data):
            raise ProgramError(f"a {kind.__name__} table at byte {at} is malformed")

        def place(slot: int) -> int | None:
            if 4 + 2 * slot + 2 > vtable_size:
                return None
            offset = self.unpack("<H", vtable + 4 + 2 * slot)
            if offset and not 4 <= offset < size:
                raise ProgramError(f"a field of {kind.__name__} is outside of its table")
            return at + offset if offset else None

        return kind(
            **{
                name: self.union(place(slot), place(slot + 1), field)
                if _members(field)
                else self.value(place(slot), field)
                for name, slot, field in _fields(kind)
            }
        )

    def union(self, tag: int | None, at: int | None, kind: Any) -> Any:
        number = 0 if tag is None else self.unpack("<B", tag)
        members = _members(kind)
        if number == 0:
            return None
        if number > len(members) or at is None:
            raise ProgramError(f"a union has member {number}, expected 0 to {len(members)}")
        return self.table(self.reference(at), members[number - 1])

    def value(self, at: int | None, kind: Any) -> Any:
        """The value stored at ``at``, of a field or of a vector's element; its default if None."""
        if code := _format(kind):
            return (
                struct.unpack(code, bytes(8)[: struct.calcsize(code)])[0]
                if at is None
                else self.unpack(code, at)
            )
        if kind is str:
            return "" if at is None else self.text(self.reference(at))
        if kind is bytes:
            return self.data[:0] if at is None else self.vector(self.reference(at), 1)[0]
        if typing.get_origin(kind) is list:
            return [] if at is None else self.items(self.reference(at), typing.get_args(kind)[0])
        if at is None:
            return None
        return self.table(self.reference(at), _table_of(kind))

    def vector(self, at: int, width: int) -> tuple[memoryview, int]:
        """The elements' bytes, and their number, of the vector at ``at``."""
        count = self.unpack("<I", at)
        start, end = at + 4, at + 4 + count * width
        if end > len(self.data):
            raise ProgramError(f"a vector of {count} elements at byte {at} leaves the program")
        return self.data[start:end], count

    def text(self, at: int) -> str:
        raw = self.vector(at, 1)[0]
        self.spend(len(raw))
        try:
            return str(raw, "utf-8")
        except UnicodeDecodeError as error:
            raise ProgramError(f"a string at byte {at} is not UTF-8") from error

    def items(self, at: int, kind: Any) -> list[Any]:
        if code := _format(kind):
            raw, count = self.vector(at, struct.calcsize(code))
            self.spend(count)
            return list(struct.unpack(f"<{count}{code[1:]}", raw))
        _, count = self.vector(at, 4)
        self.spend(count)
        return [self.value(at + 4 + 4 * index, kind) for index in range(count)]


@cache
def _table_of(kind: Any) -> type:
    """The table ``X`` of an annotation ``X`` or ``X | None``."""
    return next((t for t in typing.get_args(kind) if t is not types.NoneType), kind)
