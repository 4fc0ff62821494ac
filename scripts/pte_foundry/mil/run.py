"""Interpreter loop over instructions that :mod:`pte_foundry.mil.build` resolved at load.

Operations compute. The loop does everything they have in common: it passes arguments, rounds a
result once where an operation computed in fp32, checks it against its declared type, calls the tap,
and drops values after their last use.
"""

import math
from collections import ChainMap
from collections.abc import Callable, Hashable, Iterator, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from pte_foundry import limits
from pte_foundry.errors import LimitError, ProgramError
from pte_foundry.mil.constants import Constant
from pte_foundry.mil.parameters import Parameter, narrow
from pte_foundry.mil.registry import Kernel
from pte_foundry.mil.types import TensorList, TensorType, Value, ValueType, describe

POLICY = "values in declared dtypes; contractions accumulate in fp32"
"""How fp16 is computed, for reports.

Every value is stored in the dtype that the program declares. Operations that sum or that chain
several roundings (convolution, matrix products, attention, norms, reductions, softmax, exp and the
like: whatever has ``Upcast`` parameters) compute in fp32 and round to fp16 once, as Core ML's CPU
and GPU do; a sum that the Neural Engine keeps in fp16 may differ more. Single-step elementwise
operations (add, mul, relu …) on fp16 are exact up to their one rounding either way.
"""

Tap = Callable[[str, Tensor], None]
"""Called with the name and the tensor of a value as it is computed."""

# A value may be this many times as large as what its operation declares and reads: operations
# compute in wider dtypes, and step by step. Below the second number of bytes any size is allowed.
_LARGER, _NO_MATTER = 16, 1 << 26

# Sets of shapes that are remembered for an instruction.
_KEYS = 64


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
    """A function's body, or a nested block of a control flow operation."""

    inputs: tuple[NamedType, ...]
    instructions: tuple[Instruction, ...]
    outputs: tuple[Operand, ...]


def run_block(block: Block, scope: Scope, tap: Tap | None) -> tuple[Value, ...]:
    """Run a block.

    Args:
        scope: the block's inputs, and the values around it, by name; modified.
        tap: called for every tensor that the block computes.

    Returns:
        The block's outputs, in order.

    Raises:
        ProgramError: an operation failed, or its result differs from the declared type.
    """
    for instruction in block.instructions:
        _publish(instruction, execute(instruction, scope, tap), scope, tap)
    return tuple(_value(operand, scope) for operand in block.outputs)


def _publish(
    instruction: Instruction, results: tuple[Value, ...], scope: Scope, tap: Tap | None
) -> None:
    for output, value in zip(instruction.operation.outputs, results, strict=True):
        scope[output.name] = value
        if tap is not None and isinstance(value, Tensor):
            tap(output.name, value)
    for name in instruction.last_uses:
        scope.pop(name, None)


def execute(instruction: Instruction, scope: Scope, tap: Tap | None = None) -> tuple[Value, ...]:
    """Run one instruction and check its results.

    The largest values decide how much memory a run takes, so none lives longer than needed. A value
    that is used here last leaves the scope before the operation runs: its fp16 form is freed once
    the fp32 form exists. Arguments are freed before the results are rounded.

    Raises:
        ProgramError: as :func:`run_block`.
    """
    operation = instruction.operation
    meter = limits.current()
    try:
        if meter is not None:
            meter.step()
        arguments = _arguments(instruction, scope, tap)
        if not instruction.blocks:  # nested blocks read the scope while they run
            for name in instruction.last_uses:
                scope.pop(name, None)
        if meter is None or instruction.blocks:
            results = instruction.kernel.run(**arguments)
        else:
            results = _watched(instruction, arguments, meter)
        del arguments
    except LimitError as error:
        if instruction.blocks:
            raise  # the message names the operation within
        raise LimitError(f"{operation.op} {operation.name!r} failed: {error}") from error
    except ProgramError:
        raise  # from a nested block: the message names the operation that failed
    except Exception as error:
        raise ProgramError(f"{operation.op} {operation.name!r} failed: {error}") from error
    results = results if isinstance(results, tuple) else (results,)
    if len(results) != len(operation.outputs):
        raise ProgramError(
            f"{operation.op} {operation.name!r} gave {len(results)} results, "
            f"the program declares {len(operation.outputs)}"
        )
    return tuple(
        _checked(instruction, output, value)
        for output, value in zip(operation.outputs, results, strict=True)
    )


def _watched(instruction: Instruction, arguments: dict[str, Any], meter: limits.Meter) -> Any:
    """Run an operation within the limit on memory."""
    kernel = instruction.kernel
    # Constants are the same each time. The values of tensors matter to operations that are `sized`.
    key = None if kernel.sized else tuple(_key(arguments[v.key]) for v in instruction.variables)
    if key in instruction.harmless:
        results = kernel.run(**arguments)
    else:
        meter.cap = _cap(instruction.operation, arguments) if kernel.sized else None
        try:
            with meter.watch:
                results = kernel.run(**arguments)
        finally:
            meter.cap = None
        if key is not None and len(instruction.harmless) < _KEYS:
            instruction.harmless.add(key)
    for result in results if isinstance(results, tuple) else (results,):
        if isinstance(result, Tensor):
            meter.count(result.nbytes)
    return results


def _key(argument: Any) -> Hashable:
    if isinstance(argument, Tensor):
        return argument.shape
    if isinstance(argument, TensorList):
        return len(argument.elements), argument.element
    if isinstance(argument, tuple | list):
        return tuple(map(_key, argument))
    return repr(argument)


def _cap(operation: Operation, arguments: dict[str, Any]) -> int | None:
    """Bytes of the largest value that an operation may make, if it declares its results' sizes."""
    values = [a for a in arguments.values() if isinstance(a, Tensor)]
    count = sum(value.nbytes for value in values)
    for output in operation.outputs:
        shape = output.type.shape if isinstance(output.type, TensorType) else None
        if shape is None or None in shape:
            return None
        count += math.prod(shape) * 4
    return max(count * _LARGER, _NO_MATTER)


def _arguments(instruction: Instruction, scope: Scope, tap: Tap | None) -> dict[str, Any]:
    arguments = dict(instruction.constants)
    if instruction.blocks:
        arguments["blocks"] = tuple(partial(_nested, b, scope, tap) for b in instruction.blocks)
    for key, parameter, operands in instruction.variables:
        values = tuple(_value(operand, scope) for operand in operands)
        arguments[key] = parameter.convert(values if parameter.variadic else values[0])
    return arguments


def _checked(instruction: Instruction, output: NamedType, value: Value) -> Value:
    declared = output.type
    if isinstance(value, Tensor) and isinstance(declared, TensorType):
        dtype = declared.dtype.torch
        if value.dtype is not dtype:
            value = value.to(dtype) if instruction.kernel.casts else narrow(value, dtype)
    if not declared.accepts(value):
        operation = instruction.operation
        raise ProgramError(
            f"{operation.op} {operation.name!r} gave {output.name!r} as {describe(value)}, "
            f"the program declares {declared}"
        )
    return value


def _nested(block: Block, outer: Scope, tap: Tap | None, *inputs: Value) -> tuple[Value, ...]:
    # A nested block reads the values around it; the values that it computes stay inside.
    names = (i.name for i in block.inputs)
    return run_block(block, ChainMap(dict(zip(names, inputs, strict=True)), outer), tap)


def _value(operand: Operand, scope: Scope) -> Value | Constant:
    return scope[operand] if isinstance(operand, Name) else operand


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
