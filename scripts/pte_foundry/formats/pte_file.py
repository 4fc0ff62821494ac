"""Reader of ``.pte`` files: extended header, flatbuffer program, and the segments behind it.

Layout: executorch 1.5, ``exir/_serialize/_program.py`` and ``schema/extended_header.h``. The file
is untrusted: :func:`read_pte` checks every index in it, so that users of a :class:`PteFile` can
follow them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pte_foundry.errors import ProgramError
from pte_foundry.formats import flatbuffer, pte_schema
from pte_foundry.formats.untrusted import map_file

IDENTIFIER = b"ET12"
_HEADER_MAGIC = b"eh00"
_HEADER_MINIMUM = 24  # without segment_data_size, which older files lack
_HEADER_FULL = 32


@dataclass(frozen=True)
class PteFile:
    """A parsed ``.pte``. All data are views into the file, not copies.

    Attributes:
        program: the flatbuffer, decoded; every index in it is within bounds.
        segments: data behind the flatbuffer: delegates, constants, named data.
    """

    program: pte_schema.Program
    segments: list[memoryview]

    @property
    def plans(self) -> dict[str, pte_schema.ExecutionPlan]:
        """Execution plans by method name."""
        return {plan.name: plan for plan in self.program.execution_plan}

    @property
    def named_data(self) -> dict[str, memoryview]:
        """Data that delegates share, by key."""
        return {entry.key: self.segments[entry.segment_index] for entry in self.program.named_data}

    def delegate_data(self, delegate: pte_schema.BackendDelegate) -> memoryview:
        """A delegate's compiled part of the program (``processed``)."""
        if delegate.processed.location == pte_schema.SEGMENT:
            return self.segments[delegate.processed.index]
        return self.program.backend_delegate_data[delegate.processed.index].data

    def constant(self, index: int, size: int) -> memoryview:
        """The first ``size`` bytes of a constant, by a tensor's ``data_buffer_idx``.

        Raises ProgramError if the program has fewer.
        """
        subsegments = self.program.constant_segment
        if subsegments is not None and subsegments.offsets:
            return self._part(subsegments, index, size, "constant")
        buffers = self.program.constant_buffer
        if index >= len(buffers) or len(buffers[index].storage) < size:
            raise ProgramError(f"constant {index} of {size} bytes is not in the program")
        return buffers[index].storage[:size]

    def initial_state(self, segment: int, index: int, size: int) -> memoryview:
        """The first ``size`` bytes of the initial state of a mutable buffer.

        Raises ProgramError if the program has fewer.
        """
        parts = self.program.mutable_data_segments
        if segment >= len(parts):
            raise ProgramError(f"mutable data segment {segment} of {len(parts)} does not exist")
        return self._part(parts[segment], index, size, "initial state")

    def _part(
        self, subsegments: pte_schema.SubsegmentOffsets, index: int, size: int, what: str
    ) -> memoryview:
        data = self.segments[subsegments.segment_index]
        if index >= len(subsegments.offsets) or subsegments.offsets[index] + size > len(data):
            raise ProgramError(f"{what} {index} of {size} bytes is not in its segment")
        start = subsegments.offsets[index]
        return data[start : start + size]


def read_pte(source: bytes | Path) -> PteFile:
    """Parse and check a ``.pte``, given its bytes or its path.

    A path is mapped into memory: the file must not change while the result is in use.

    Raises ProgramError if it is truncated, malformed or inconsistent; OSError if it cannot be read.
    """
    data = map_file(source) if isinstance(source, Path) else memoryview(source)
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        found = bytes(data[4:8])
        raise ProgramError(
            f"not an ExecuTorch program: identifier {found!r}, expected {IDENTIFIER!r}"
        )
    size, base, segment_bytes = _extended_header(data)
    program = flatbuffer.read(data[:size], pte_schema.Program)
    segments = []
    for number, segment in enumerate(program.segments):
        if segment.offset + segment.size > segment_bytes:
            raise ProgramError(
                f"segment {number} ({segment.size} bytes at {segment.offset}) exceeds the file's "
                f"{segment_bytes} bytes of segments: the file is truncated or damaged"
            )
        start = base + segment.offset
        segments.append(data[start : start + segment.size].toreadonly())
    _check_program(program)
    return PteFile(program, segments)


def _extended_header(data: memoryview) -> tuple[int, int, int]:
    """Size of the flatbuffer, offset of the segments, size of the segments; all in bytes."""
    header = data[8 : 8 + _HEADER_FULL]
    if len(header) < _HEADER_FULL or header[:4] != _HEADER_MAGIC:
        return len(data), 0, 0
    length, size, base, segment_bytes = struct.unpack("<IQQQ", header[4:])
    if length < _HEADER_MINIMUM or not 8 + length <= size <= len(data):
        raise ProgramError(
            f"the header declares a program of {size} bytes in a file of {len(data)}: "
            "the file is truncated or damaged"
        )
    if base == 0:
        return size, 0, 0
    rest = len(data) - base
    if length < _HEADER_FULL or segment_bytes == 0:
        segment_bytes = rest
    if base < size or segment_bytes > rest:
        raise ProgramError(
            f"the header declares {segment_bytes} bytes of segments at offset {base} in a file of "
            f"{len(data)}: the file is truncated or damaged"
        )
    return size, base, segment_bytes


def _check_program(program: pte_schema.Program) -> None:
    segments = len(program.segments)
    for entry in program.named_data:
        _check([entry.segment_index], segments, f"segment of named data {entry.key!r}")
    for part in [program.constant_segment, *program.mutable_data_segments]:
        if part is not None and part.offsets:
            _check([part.segment_index], segments, "segment of constants or initial state")
    names = [plan.name for plan in program.execution_plan]
    if len(set(names)) != len(names):
        raise ProgramError(f"two methods have the same name; the names are {', '.join(names)}")
    for plan in program.execution_plan:
        for delegate in plan.delegates:
            _check_delegate(program, delegate)
        _check_plan(plan)


def _check_delegate(program: pte_schema.Program, delegate: pte_schema.BackendDelegate) -> None:
    place = delegate.processed
    if place is None or place.location not in (pte_schema.INLINE, pte_schema.SEGMENT):
        raise ProgramError(f"delegate {delegate.id!r} has no valid data location")
    inline = place.location == pte_schema.INLINE
    count = len(program.backend_delegate_data) if inline else len(program.segments)
    _check([place.index], count, f"data of delegate {delegate.id!r}")


def _check_plan(plan: pte_schema.ExecutionPlan) -> None:
    count = len(plan.values)
    _check(plan.inputs, count, f"input of {plan.name!r}")
    _check(plan.outputs, count, f"output of {plan.name!r}")
    for value in plan.values:
        content = value.val
        if isinstance(content, pte_schema.IntList | pte_schema.TensorList):
            _check(content.items, count, "element of a list")
        elif isinstance(content, pte_schema.OptionalTensorList):
            _check([item for item in content.items if item != -1], count, "element of a list")
    for chain in plan.chains:
        for instruction in chain.instructions:
            _check_instruction(plan, instruction.instr_args, len(chain.instructions))


def _check_instruction(plan: pte_schema.ExecutionPlan, call: object, length: int) -> None:
    count = len(plan.values)
    match call:
        case pte_schema.KernelCall():
            _check([call.op_index], len(plan.operators), "operator of a call")
            _check(call.args, count, "argument of a kernel")
        case pte_schema.DelegateCall():
            _check([call.delegate_index], len(plan.delegates), "delegate of a call")
            _check(call.args, count, "argument of a delegate")
        case pte_schema.MoveCall():
            _check([call.move_from, call.move_to], count, "value of a move")
        case pte_schema.JumpFalseCall():
            _check([call.cond_value_index], count, "condition of a jump")
            # One past the last instruction ends the method.
            _check([call.destination_instruction], length + 1, "destination of a jump")
        case pte_schema.FreeCall():
            _check([call.value_index], count, "freed value")
        case _:
            raise ProgramError(f"an instruction of {plan.name!r} is empty")


def _check(indices: Iterable[int], count: int, what: str) -> None:
    for index in indices:
        if not 0 <= index < count:
            raise ProgramError(f"{what}: index {index} is out of range, there are {count}")
