"""What a run of a function records, so that later ones on inputs of the same shapes have a plan."""

import torch
from torch import Tensor

from pte_foundry.mil.instructions import Block, Instruction, Name, Scope
from pte_foundry.mil.types import StateType, Value


class Record:
    """Dtypes and shapes of a run's values, and which of them are views of what a state held.

    Attributes:
        block: that runs.
        types: dtype and shape of each tensor, by name.
        shapes: those of the results of each instruction; None for what is no tensor.
    """

    def __init__(self, block: Block, scope: Scope) -> None:
        self.block = block
        self.types: dict[str, tuple[torch.dtype, torch.Size]] = {}
        self.shapes: list[tuple[torch.Size | None, ...]] = []
        self._reads: dict[int, int] = {}  # the last use of each read of a state, as instructions
        self._views: dict[str, tuple[int, int]] = {}  # by name: the read, and the address
        for given in block.inputs:
            declared = given.type.tensor if isinstance(given.type, StateType) else given.type
            self.types[given.name] = declared.dtype.torch, scope[given.name].shape

    def add(self, instruction: Instruction, results: tuple[Value, ...]) -> None:
        """Add an instruction that has run."""
        number = len(self.shapes)
        self.shapes.append(tuple(r.shape if isinstance(r, Tensor) else None for r in results))
        viewed = [self._views[name] for name in names_of(instruction) if name in self._views]
        self._reads.update((read, number) for read, _ in viewed)
        for output, result in zip(instruction.operation.outputs, results, strict=True):
            if not isinstance(result, Tensor):
                continue
            self.types[output.name] = result.dtype, result.shape
            address = result.untyped_storage().data_ptr()
            if instruction.operation.op == "read_state":
                self._reads[number], self._views[output.name] = number, (number, address)
            # The memory of an argument is in use: only a view of it has its address.
            for read, source in viewed:
                if source == address:
                    self._views[output.name] = read, address

    def uncopied(self) -> set[int]:
        """Return the reads of states that need no copy, as numbers of instructions.

        Nothing writes such a state while what was read, or a view of it, is in use.
        """
        instructions = self.block.instructions
        if any(instruction.blocks for instruction in instructions):
            return set()  # a nested block reads and writes without being recorded
        for operand in self.block.outputs:
            if isinstance(operand, Name) and operand in self._views:
                self._reads[self._views[operand][0]] = len(instructions)
        writes = [
            (number, state_of(instruction))
            for number, instruction in enumerate(instructions)
            if instruction.operation.op == "write_state"
        ]
        return {
            read
            for read, last in self._reads.items()
            if not any(
                read < number <= last and state == state_of(instructions[read])
                for number, state in writes
            )
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
