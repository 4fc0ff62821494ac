"""Builder of instructions: one function of the protobuf, with constants read and ops resolved.

The builder walks the operations in order and keeps two things per block (:class:`_Scope`): the
names that operations compute at run time, and the constants by name. Constants are read at their
first use and forgotten at their last; :mod:`pte_foundry.mil.constant_pool` explains the memory
rules and their invariants. Read it before you change anything here.
"""

from collections import ChainMap, Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pte_foundry.errors import ProgramError
from pte_foundry.formats.mil_contents import CONSTEXPR, walk_operations
from pte_foundry.formats.mlpackage import body_of
from pte_foundry.mil.constant_pool import ConstantPool, LazyConstant, operation_key, value_key
from pte_foundry.mil.constants import Constant
from pte_foundry.mil.instructions import (
    Block,
    Instruction,
    Name,
    NamedType,
    Operand,
    Operation,
    Variable,
    mark_last_uses,
)
from pte_foundry.mil.registry import OPSETS, Kernel, find
from pte_foundry.mil.run import execute
from pte_foundry.mil.types import TensorType, describe, read_type
from pte_foundry.upstream.coremltools_protobuf import MIL_pb2


def build(function: MIL_pb2.Function, pool: ConstantPool) -> Block:
    """Build the body of a function, which must have passed :func:`refuse_unsupported`.

    Args:
        pool: of the program; functions share weights through it.

    Raises:
        ProgramError: the function is malformed, or a ``constexpr_*`` operation fails.
    """
    body, opset = _body(function)
    inputs = tuple(NamedType(i.name, read_type(i.type)) for i in function.inputs)
    builder = _Builder(opset, pool, _count_uses(body))
    values = ChainMap(dict.fromkeys(i.name for i in inputs))
    block = builder.block(body, inputs, _Scope(values, ChainMap()))
    _share_upcast(block, pool)
    mark_last_uses(block, is_function=True)
    return block


def refuse_unsupported(functions: Iterable[MIL_pb2.Function]) -> None:
    """Check that every operation is implemented at its function's opset.

    Raises:
        ProgramError: some are not; the message lists all, with opset and count.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for function in functions:
        body, opset = _body(function)
        counts.update((operation.type, opset) for operation in walk_operations(body))
    unsupported = [
        f"{op} ({opset}) x{count}"
        for (op, opset), count in sorted(counts.items())
        if op != "const" and find(op, opset) is None
    ]
    if unsupported:
        raise ProgramError(f"unsupported operations: {', '.join(unsupported)}")


def _body(function: MIL_pb2.Function) -> tuple[MIL_pb2.Block, str]:
    """A function's block, and its opset by our name."""
    body = body_of(function)
    if function.opset not in OPSETS:
        raise ProgramError(f"opset {function.opset!r} is unknown; known: {', '.join(OPSETS)}")
    return body, OPSETS[function.opset]


def _count_uses(body: MIL_pb2.Block) -> Counter[str]:
    """How often each name is read in a body, nested blocks included."""
    uses = Counter(body.outputs)
    for operation in walk_operations(body):
        for nested in operation.blocks:
            uses.update(nested.outputs)
        for argument in operation.inputs.values():
            uses.update(binding.name for binding in argument.arguments if binding.name)
    return uses


@dataclass
class _Scope:
    """The names that a block can read: values computed at run time, and constants.

    A nested block's are in front of those around it, which are not copied.
    """

    values: ChainMap[str, None]
    constants: ChainMap[str, LazyConstant]

    def nested(self, names: Iterable[str]) -> "_Scope":
        """The scope of a nested block with these inputs. The constants are the same objects."""
        return _Scope(self.values.new_child(dict.fromkeys(names)), self.constants.new_child())

    def operand(self, name: str, where: str) -> Operand:
        """Resolve a name: a constant's value, which counts as one of its uses, or the name."""
        if name in self.constants:
            return self.constants[name].take()
        if name not in self.values:
            raise ProgramError(f"{where}: the value {name!r} is not defined")
        return Name(name)


class _Builder:
    """Builder of the blocks of one function."""

    def __init__(self, opset: str, pool: ConstantPool, uses: Mapping[str, int]):
        self._opset = opset
        self._pool = pool
        self._uses = uses

    def block(self, spec: MIL_pb2.Block, inputs: tuple[NamedType, ...], scope: _Scope) -> Block:
        """Build a block; its names are added to ``scope``."""
        defined = {i.name for i in inputs}
        if len(defined) != len(inputs):
            raise ProgramError("two inputs of a block have the same name")
        instructions = []
        for operation in spec.operations:
            outputs = tuple(NamedType(o.name, read_type(o.type)) for o in operation.outputs)
            for output in outputs:
                if output.name in defined:
                    raise ProgramError(f"the value {output.name!r} is defined twice")
                defined.add(output.name)
            if operation.type == "const":
                scope.constants.update(self._constant(operation, outputs))
            elif operation.type.startswith(CONSTEXPR):
                scope.constants.update(self._decompressed(operation, outputs, scope))
            else:
                instructions.append(self._instruction(operation, outputs, scope))
                scope.values.update(dict.fromkeys(o.name for o in outputs))
        results = tuple(scope.operand(name, "the block's outputs") for name in spec.outputs)
        return Block(inputs, tuple(instructions), results)

    def _constant(
        self, operation: MIL_pb2.Operation, outputs: tuple[NamedType, ...]
    ) -> dict[str, LazyConstant]:
        if len(outputs) != 1 or "val" not in operation.attributes:
            raise ProgramError("a const needs one output and a value")
        output, spec = outputs[0], operation.attributes["val"]

        def read() -> Constant:
            value = self._pool.read(spec)
            if not isinstance(output.type, TensorType) or not output.type.accepts(value):
                raise ProgramError(
                    f"const {output.name!r} is {describe(value)}, declared {output.type}"
                )
            return value

        uses = self._uses[output.name]
        if not uses:
            read()  # unused, but it must not be malformed
        return {output.name: LazyConstant(value_key(spec), uses, read)}

    def _decompressed(
        self, spec: MIL_pb2.Operation, outputs: tuple[NamedType, ...], scope: _Scope
    ) -> dict[str, LazyConstant]:
        """Results of a ``constexpr_*`` operation: those of an equal one if they are in use."""
        key = operation_key(spec, self._opset, scope.constants), tuple(o.type for o in outputs)
        results = [self._pool.find((key, place)) for place in range(len(outputs))]
        if any(result is None for result in results):
            results = execute(self._instruction(spec, outputs, scope), {})
            for place, result in enumerate(results):
                self._pool.remember((key, place), result)
        else:  # the arguments' data are not read
            for argument in spec.inputs.values():
                for binding in argument.arguments:
                    if binding.name:
                        scope.constants[binding.name].skip()
        return {
            output.name: LazyConstant(
                (key, place), self._uses[output.name], lambda result=result: result
            )
            for place, (output, result) in enumerate(zip(outputs, results, strict=True))
        }

    def _instruction(
        self, spec: MIL_pb2.Operation, outputs: tuple[NamedType, ...], scope: _Scope
    ) -> Instruction:
        names = {
            key: tuple(b.name for b in argument.arguments if b.name)
            for key, argument in spec.inputs.items()
        }
        operation = Operation(spec.type, _name(spec, outputs), names, outputs)
        where = f"{operation.op} {operation.name!r}"
        kernel = find(spec.type, self._opset)
        operands = self._operands(spec, where, scope)
        _check_operands(where, kernel, operands, bool(spec.blocks))
        constants, variables = self._convert(where, kernel, operands)
        blocks = tuple(self._nested(nested, scope) for nested in spec.blocks)
        return Instruction(operation, kernel, constants, variables, blocks)

    def _operands(
        self, spec: MIL_pb2.Operation, where: str, scope: _Scope
    ) -> dict[str, tuple[Operand, ...]]:
        # Up to iOS17 constexpr operations have their arguments as attributes, later as inputs.
        operands: dict[str, tuple[Operand, ...]] = {
            key: (self._pool.read(value),)
            for key, value in spec.attributes.items()
            if key != "name"
        }
        for key, argument in spec.inputs.items():
            operands[key] = tuple(
                scope.operand(b.name, where)
                if b.WhichOneof("binding") == "name"
                else self._pool.read(b.value)
                for b in argument.arguments
            )
        return operands

    def _convert(
        self, where: str, kernel: Kernel, operands: Mapping[str, tuple[Operand, ...]]
    ) -> tuple[dict[str, Any], tuple[Variable, ...]]:
        """Convert the constant arguments; return the others as they are, for the run."""
        constants, variables = {}, []
        for key, given in operands.items():
            parameter = kernel.parameters[key]
            if parameter.upcast:
                given = tuple(self._pool.upcast(o) if isinstance(o, Tensor) else o for o in given)
            if any(isinstance(operand, Name) for operand in given):
                variables.append(Variable(key, parameter, given))
                continue
            try:
                constants[key] = parameter.convert(given if parameter.variadic else given[0])
            except (TypeError, ValueError, RuntimeError, AttributeError) as error:
                raise ProgramError(f"{where}: argument {key!r}: {error}") from error
        names = frozenset(constants)
        constants |= {key: names for key, p in kernel.parameters.items() if p.constant_names}
        return constants, tuple(variables)

    def _nested(self, spec: MIL_pb2.Block, scope: _Scope) -> Block:
        inputs = tuple(NamedType(i.name, read_type(i.type)) for i in spec.inputs)
        return self.block(spec, inputs, scope.nested(i.name for i in inputs))


def _share_upcast(block: Block, pool: ConstantPool) -> None:
    """Give ``AnyPrecision`` parameters the fp32 form of their constants, where one is in use."""
    for instruction in block.instructions:
        for key, value in instruction.constants.items():
            if instruction.kernel.parameters[key].any_precision:
                instruction.constants[key] = pool.upcast_if_in_use(value)
        for nested in instruction.blocks:
            _share_upcast(nested, pool)


def _name(spec: MIL_pb2.Operation, outputs: tuple[NamedType, ...]) -> str:
    if "name" in spec.attributes:  # an unchecked look-up would create it
        strings = spec.attributes["name"].immediateValue.tensor.strings.values
        if strings:
            return strings[0]
    return outputs[0].name if outputs else spec.type


def _check_operands(
    where: str, kernel: Kernel, operands: Mapping[str, tuple[Operand, ...]], has_blocks: bool
) -> None:
    known = {k: p for k, p in kernel.parameters.items() if not p.implicit}
    if unknown := sorted(set(operands) - set(known)):
        raise ProgramError(
            f"{where}: unknown arguments {unknown} for {kernel.op} since {kernel.since}"
        )
    if missing := sorted(k for k, p in known.items() if p.required and k not in operands):
        raise ProgramError(f"{where}: missing arguments {missing}")
    for key, given in operands.items():
        if len(given) != 1 and not known[key].variadic:
            raise ProgramError(f"{where}: argument {key!r} takes one value, found {len(given)}")
    takes_blocks = any(p.blocks for p in kernel.parameters.values())
    if has_blocks != takes_blocks:
        found, expected = ("some", "none") if has_blocks else ("none", "some")
        raise ProgramError(f"{where}: nested blocks: found {found}, expected {expected}")
