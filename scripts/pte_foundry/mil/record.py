"""What a run of a function records, so that later ones on inputs of the same shapes have a plan."""

from typing import NamedTuple

import torch
from torch import Tensor

from pte_foundry.mil.instructions import Block, Instruction, Name, Scope
from pte_foundry.mil.types import StateType, Value


class Form(NamedTuple):
    """Dtype and shape of a tensor."""

    dtype: torch.dtype
    shape: torch.Size


class Record:
    """The forms of a run's values, and which of them are views of what a state held.

    Attributes:
        block: that runs.
        forms: those of the tensors, by name.
    """

    def __init__(self, block: Block, scope: Scope) -> None:
        self.block = block
        self.forms: dict[str, Form] = {}
        self._number = 0
        self._reads: dict[str, tuple[str, int, int]] = {}  # state, instructions from and to
        self._views: dict[str, tuple[str, int]] = {}  # by name: the read, and the address
        for given in block.inputs:
            declared = given.type.tensor if isinstance(given.type, StateType) else given.type
            self.forms[given.name] = Form(declared.dtype.torch, scope[given.name].shape)

    def add(self, instruction: Instruction, results: tuple[Value, ...]) -> None:
        """Add the next instruction, which has run."""
        self._number += 1
        viewed = [self._views[name] for name in names_of(instruction) if name in self._views]
        for read, _ in viewed:
            self._used(read)
        for output, result in zip(instruction.operation.outputs, results, strict=True):
            if not isinstance(result, Tensor):
                continue
            self.forms[output.name] = Form(result.dtype, result.shape)
            address = result.untyped_storage().data_ptr()
            if instruction.operation.op == "read_state":
                self._reads[output.name] = state_of(instruction), self._number, self._number
                self._views[output.name] = output.name, address
            # The memory of an argument is in use: only a view of it has its address.
            for read, source in viewed:
                if source == address:
                    self._views[output.name] = read, address

    def _used(self, read: str) -> None:
        state, start, _ = self._reads[read]
        self._reads[read] = state, start, self._number

    def uncopied(self) -> set[str]:
        """Return the results of ``read_state`` that need no copy.

        Nothing writes to such a state while what was read, or a view of it, is in use.
        """
        instructions = self.block.instructions
        self._number = len(instructions) + 1
        for operand in self.block.outputs:
            if isinstance(operand, Name) and operand in self._views:
                self._used(self._views[operand][0])
        writes = [
            (number, state_of(instruction))
            for number, instruction in enumerate(instructions, start=1)
            if instruction.operation.op == "write_state"
        ]
        return {
            read
            for read, (state, start, end) in self._reads.items()
            if not any(start < number <= end and state == other for number, other in writes)
        }


def names_of(instruction: Instruction, upcast: bool | None = None) -> list[str]:
    """Return the values that an instruction reads, without those that its nested blocks read.

    Args:
        upcast: only those that it takes in fp32, or only the others.
    """
    return [
        operand
        for variable in instruction.variables
        if upcast in (None, variable.parameter.upcast)
        for operand in variable.operands
        if isinstance(operand, Name)
    ]


def state_of(instruction: Instruction) -> str:
    """Return the state that a ``read_state`` or ``write_state`` is about."""
    return next(v.operands[0] for v in instruction.variables if v.key == "input")
