"""Interpreter loop over instructions that :mod:`pte_foundry.mil.build` resolved at load.

Operations compute. The loop does everything they have in common: it passes arguments, rounds a
result once where an operation computed in fp32, checks it against its declared type, calls the tap,
and drops values after their last use.
"""

import math
from collections import ChainMap
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, NoReturn

from torch import Tensor

from pte_foundry import limits
from pte_foundry.errors import LimitError, ProgramError
from pte_foundry.mil.constants import Constant
from pte_foundry.mil.instructions import (
    Block,
    Instruction,
    Name,
    NamedType,
    Operand,
    Operation,
    Scope,
)
from pte_foundry.mil.parameters import narrow
from pte_foundry.mil.types import TensorList, TensorType, Value, describe

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

Observe = Callable[[Instruction, tuple[Value, ...]], None]
"""Called with an instruction and its results, before those that are used last are dropped."""

# A value may be this many times as large as what its operation declares and reads: operations
# compute in wider dtypes, and step by step. Below the second number of bytes any size is allowed.
_LARGER, _NO_MATTER = 16, 1 << 26

# Sets of shapes that are remembered for an instruction.
_KEYS = 64


def run_block(
    block: Block, scope: Scope, tap: Tap | None, start: int = 0, observe: Observe | None = None
) -> tuple[Value, ...]:
    """Run a block.

    Args:
        scope: the block's inputs, and the values around it, by name; modified.
        tap: called for every tensor that the block computes.
        start: the instruction to begin with; the results of those before it are in ``scope``.
        observe: called with each instruction and its results.

    Returns:
        The block's outputs, in order.

    Raises:
        ProgramError: an operation failed, or its result differs from the declared type.
    """
    for instruction in block.instructions[start:]:
        publish(instruction, execute(instruction, scope, tap), scope, tap, observe)
    return tuple(_value(operand, scope) for operand in block.outputs)


def publish(
    instruction: Instruction,
    results: tuple[Value, ...],
    scope: Scope,
    tap: Tap | None = None,
    observe: Observe | None = None,
) -> None:
    """Add an instruction's results to the scope, and drop what no later one reads."""
    if observe is not None:
        observe(instruction, results)
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
    except Exception as error:
        raise_named(instruction, error)
    return check(instruction, results)


def raise_named(instruction: Instruction, error: Exception) -> NoReturn:
    """Raise an operation's error with the operation's name.

    Raises:
        LimitError: it was one.
        ProgramError: it was another.
    """
    operation, limit = instruction.operation, isinstance(error, LimitError)
    if instruction.blocks if limit else isinstance(error, ProgramError):
        raise error  # from a nested block: the message names the operation within
    kind = LimitError if limit else ProgramError
    raise kind(f"{operation.op} {operation.name!r} failed: {error}") from error


def check(instruction: Instruction, results: Value | tuple[Value, ...]) -> tuple[Value, ...]:
    """Return the results of an operation in their declared dtypes.

    Raises:
        ProgramError: they are not of the declared types, or not as many.
    """
    operation = instruction.operation
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
