"""Instructions of a program: its operations resolved to the functions that compute them.

:mod:`pte_foundry.mil.build` makes them, :mod:`pte_foundry.mil.run` executes them.
"""

from collections.abc import Hashable, Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from pte_foundry.mil.constants import Constant
from pte_foundry.mil.parameters import Parameter
from pte_foundry.mil.registry import Kernel
from pte_foundry.mil.types import Value, ValueType


class Name(str):
    """Name of a value computed at run time; a plain ``str`` is a constant string."""


Operand = Name | Constant
"""An argument: a value of the run by its name, or a constant."""

Scope = MutableMapping[str, Value]
"""The values that a block reads, by name; those that it computes itself are added."""


@dataclass(frozen=True)
class NamedType:
    """Name and declared type of a value."""

    name: str
    type: ValueType


class Variable(NamedTuple):
    """An argument that is not constant, or a tuple of which some are not."""

    key: str
    parameter: Parameter
    operands: tuple[Operand, ...]


@dataclass(frozen=True)
class Operation:
    """One operation of a program, for reports.

    Attributes:
        op: its type, for example ``conv``.
        name: its name in the program.
        inputs: names of the values of each parameter; literal values have no name.
        outputs: the values that it produces, with their declared types.
    """

    op: str
    name: str
    inputs: dict[str, tuple[str, ...]]
    outputs: tuple[NamedType, ...]


@dataclass(frozen=True)
class Instruction:
    """An operation resolved to its function.

    Attributes:
        constants: converted arguments by parameter.
        variables: the other arguments, converted in each run.
        blocks: nested blocks of a control flow operation.
        last_uses: names that no later instruction of the block reads.
        harmless: shapes and numbers of arguments with which it has run within the limits: what it
            allocates follows from them, so it need not be watched again.
    """

    operation: Operation
    kernel: Kernel
    constants: dict[str, Any]
    variables: tuple[Variable, ...]
    blocks: tuple["Block", ...] = ()
    last_uses: list[str] = field(default_factory=list)
    harmless: set[Hashable] = field(default_factory=set)


@dataclass(frozen=True)
class Block:
    """A function's body, or a nested block of a control flow operation.

    Attributes:
        plans: of a function, by the shapes of its inputs (:mod:`pte_foundry.mil.plan`).
    """

    inputs: tuple[NamedType, ...]
    instructions: tuple[Instruction, ...]
    outputs: tuple[Operand, ...]
    plans: dict[Hashable, Any] = field(default_factory=dict)


def constants_of(block: Block) -> Iterator[Tensor]:
    """The constant tensors among a block's arguments and outputs, nested blocks included."""
    found: list[Any] = list(block.outputs)
    for instruction in block.instructions:
        found.extend(instruction.constants.values())
        found.extend(o for variable in instruction.variables for o in variable.operands)
        for nested in instruction.blocks:
            yield from constants_of(nested)
    for constant in found:
        parts = constant if isinstance(constant, tuple) else (constant,)
        yield from (part for part in parts if isinstance(part, Tensor))


def mark_last_uses(block: Block, is_function: bool) -> set[str]:
    """Fill in ``last_uses`` of a block's instructions; return the names it reads from outside.

    A block drops only values that it produces itself: a value from outside is needed again when a
    nested block runs again.
    """
    own = {i.name for i in block.inputs} if is_function else set()
    own |= {o.name for i in block.instructions for o in i.operation.outputs}
    seen = {operand for operand in block.outputs if isinstance(operand, Name)}
    for instruction in reversed(block.instructions):
        names = {o for v in instruction.variables for o in v.operands if isinstance(o, Name)}
        for nested in instruction.blocks:
            names |= mark_last_uses(nested, is_function=False)
        produced = {o.name for o in instruction.operation.outputs}
        instruction.last_uses.extend(sorted(((names | produced) & own) - seen))
        seen |= names | produced
    return seen - own - {i.name for i in block.inputs}
