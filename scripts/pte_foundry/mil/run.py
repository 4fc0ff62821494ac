"""Executes a program: a plain loop over instructions that were resolved at load.

The operations compute; the loop does what is common to all of them: it hands over arguments, rounds
once where a contraction ran in fp32, compares every result with the type that the program declares,
reports tensors to the tap and forgets values after their last use.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pte_foundry.errors import ProgramError
from pte_foundry.mil.parameters import Parameter
from pte_foundry.mil.registry import Kernel
from pte_foundry.mil.types import TensorType, Value, ValueType, describe
from pte_foundry.mil.values import Constant

POLICY = "values in declared dtypes; contractions accumulate in fp32"
"""How fp16 is computed, for reports.

Every value is stored in the dtype that the program declares. Operations that sum or that chain
several roundings (convolution, matrix products, attention, norms, reductions, softmax, exp and the
like: whatever takes ``Wide`` arguments) compute in fp32 and round to fp16 once, as Core ML's CPU
and GPU do; a sum that the Neural Engine keeps in fp16 may differ more. Single-step elementwise
operations (add, mul, relu …) on fp16 are exact up to their one rounding either way.
"""

Tap = Callable[[str, Tensor], None]


class Name(str):
    """The name of a value computed at run time, told apart from a constant string."""


# Where an argument comes from: a value of the run, or a constant.
Slot = Name | Constant


@dataclass(frozen=True)
class NamedType:
    name: str
    type: ValueType


@dataclass(frozen=True)
class Operation:
    """One operation of a program, for reports.

    Attributes:
        op: what it computes, for example ``conv``.
        name: its name in the program.
        inputs: the names of the values that each parameter takes; literal values have no name.
        outputs: the values it produces, with their declared types.
    """

    op: str
    name: str
    inputs: dict[str, tuple[str, ...]]
    outputs: tuple[NamedType, ...]


@dataclass(frozen=True)
class Instruction:
    """An operation resolved to its function, with its constant arguments already converted."""

    operation: Operation
    kernel: Kernel
    constants: dict[str, Any]
    variables: tuple[tuple[str, Parameter, tuple[Slot, ...]], ...]
    blocks: tuple["Block", ...] = ()
    last_uses: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Block:
    """A function's body, or a nested block of a control flow operation."""

    inputs: tuple[NamedType, ...]
    instructions: tuple[Instruction, ...]
    outputs: tuple[Slot, ...]


def run_block(block: Block, scope: dict[str, Value], tap: Tap | None) -> tuple[Value, ...]:
    """Runs a block in a scope that holds its inputs; the scope is used up.

    Raises:
        ProgramError: an operation failed, or gave something else than the program declares.
    """
    for instruction in block.instructions:
        _publish(instruction, execute(instruction, scope, tap), scope, tap)
    return tuple(_value(slot, scope) for slot in block.outputs)


def _publish(
    instruction: Instruction, results: tuple[Value, ...], scope: dict[str, Value], tap: Tap | None
) -> None:
    for output, value in zip(instruction.operation.outputs, results, strict=True):
        scope[output.name] = value
        if tap is not None and isinstance(value, Tensor):
            tap(output.name, value)
    for name in instruction.last_uses:
        scope.pop(name, None)


def execute(
    instruction: Instruction, scope: dict[str, Value], tap: Tap | None = None
) -> tuple[Value, ...]:
    """Runs one instruction and checks its results.

    No value is held longer than it is needed, for the largest decide how much memory a run takes:
    what is used here last leaves the scope before the operation runs, so that an fp16 value does
    not stay beside its widened copy, and arguments are gone before results are rounded.
    """
    operation = instruction.operation
    try:
        arguments = _arguments(instruction, scope, tap)
        if not instruction.blocks:  # nested blocks look into the scope while they run
            for name in instruction.last_uses:
                scope.pop(name, None)
        results = instruction.kernel.run(**arguments)
        del arguments
    except ProgramError:
        raise  # from a nested block: it already names the operation that failed
    except Exception as error:
        raise ProgramError(f"{operation.op} {operation.name!r} failed: {error}") from error
    results = results if isinstance(results, tuple) else (results,)
    if len(results) != len(operation.outputs):
        raise ProgramError(
            f"{operation.op} {operation.name!r} gave {len(results)} results, "
            f"the program declares {len(operation.outputs)}"
        )
    return tuple(
        _checked(operation, output, value)
        for output, value in zip(operation.outputs, results, strict=True)
    )


def _arguments(
    instruction: Instruction, scope: dict[str, Value], tap: Tap | None
) -> dict[str, Any]:
    arguments = dict(instruction.constants)
    if instruction.blocks:
        arguments["blocks"] = tuple(partial(_nested, b, scope, tap) for b in instruction.blocks)
    for name, parameter, slots in instruction.variables:
        values = tuple(_value(slot, scope) for slot in slots)
        arguments[name] = parameter.convert(values if parameter.variadic else values[0])
    return arguments


def _checked(operation: Operation, output: NamedType, value: Value) -> Value:
    declared = output.type
    half = isinstance(declared, TensorType) and declared.dtype.torch == torch.float16
    if half and isinstance(value, Tensor) and value.dtype == torch.float32:
        value = value.half()  # the one rounding of an operation that computed in fp32
    if not declared.accepts(value):
        raise ProgramError(
            f"{operation.op} {operation.name!r} gave {output.name!r} as {describe(value)}, "
            f"the program declares {declared}"
        )
    return value


def _nested(
    block: Block, outer: dict[str, Value], tap: Tap | None, *inputs: Value
) -> tuple[Value, ...]:
    # A nested block sees the values around it; what it computes itself stays inside.
    names = (i.name for i in block.inputs)
    return run_block(block, outer | dict(zip(names, inputs, strict=True)), tap)


def _value(slot: Slot, scope: dict[str, Value]) -> Value | Constant:
    return scope[slot] if isinstance(slot, Name) else slot


def constants_of(block: Block) -> Iterator[Tensor]:
    """The constant tensors that a block, with those nested in it, computes with or gives."""
    slots: list[Any] = list(block.outputs)
    for instruction in block.instructions:
        slots.extend(instruction.constants.values())
        slots.extend(s for _, _, variable in instruction.variables for s in variable)
        for nested in instruction.blocks:
            yield from constants_of(nested)
    for slot in slots:
        parts = slot if isinstance(slot, tuple) else (slot,)
        yield from (part for part in parts if isinstance(part, Tensor))


def mark_last_uses(block: Block, is_function: bool) -> set[str]:
    """Fills in where each value of a block is used last, and returns the names the block reads.

    Only values that the block itself produces are forgotten in it: what a nested block reads from
    around it is still needed when the block runs again.
    """
    own = {i.name for i in block.inputs} if is_function else set()
    own |= {o.name for i in block.instructions for o in i.operation.outputs}
    seen = {slot for slot in block.outputs if isinstance(slot, Name)}
    for instruction in reversed(block.instructions):
        names = {s for _, _, slots in instruction.variables for s in slots if isinstance(s, Name)}
        for nested in instruction.blocks:
            names |= mark_last_uses(nested, is_function=False)
        produced = {o.name for o in instruction.operation.outputs}
        instruction.last_uses.extend(sorted((names | produced) & own - seen))
        seen |= names | produced
    return seen - own - {i.name for i in block.inputs}
