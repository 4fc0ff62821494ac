"""Turns one function of the protobuf into instructions: constants read, operations resolved."""

from collections import Counter
from collections.abc import Iterable, Iterator

from torch import Tensor

from pte_foundry.errors import ProgramError
from pte_foundry.mil.constants import Known, digest, key_of
from pte_foundry.mil.registry import OPSETS, Kernel, find
from pte_foundry.mil.run import (
    Block,
    Instruction,
    Name,
    NamedType,
    Operation,
    Slot,
    execute,
    mark_last_uses,
)
from pte_foundry.mil.types import TensorType, describe, read_type
from pte_foundry.mil.values import Constant, Values
from pte_foundry.upstream.coremltools_protobuf import MIL_pb2

# Compile-time operations decompress weights. They run once, at load.
_CONSTEXPR = "constexpr_"


def build(function: MIL_pb2.Function, values: Values) -> Block:
    """Builds the body of a function.

    Raises:
        ProgramError: anything malformed. What :func:`refuse_unsupported` refuses fails differently.
    """
    body, opset = _body(function)
    inputs = tuple(NamedType(i.name, read_type(i.type)) for i in function.inputs)
    block = _Builder(opset, values, _uses(body)).block(body, inputs, {i.name for i in inputs}, {})
    _share_widened(block, values)
    mark_last_uses(block, is_function=True)
    return block


def _operations(block: MIL_pb2.Block) -> Iterator[MIL_pb2.Operation]:
    for operation in block.operations:
        yield operation
        for nested in operation.blocks:
            yield from _operations(nested)


def _uses(body: MIL_pb2.Block) -> Counter[str]:
    """How often each name is read in a body, nested blocks included."""
    uses = Counter(body.outputs)
    for operation in _operations(body):
        for nested in operation.blocks:
            uses.update(nested.outputs)
        for argument in operation.inputs.values():
            uses.update(binding.name for binding in argument.arguments if binding.name)
    return uses


def refuse_unsupported(functions: Iterable[MIL_pb2.Function]) -> None:
    """
    Raises:
        ProgramError: the functions have unsupported operations; names all, with opset and count.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for function in functions:
        body, opset = _body(function)
        counts.update((operation.type, opset) for operation in _operations(body))
    listed = [
        f"{op} ({opset}) x{count}"
        for (op, opset), count in sorted(counts.items())
        if op != "const" and find(op, opset) is None
    ]
    if listed:
        raise ProgramError(f"unsupported operations: {', '.join(listed)}")


def _body(function: MIL_pb2.Function) -> tuple[MIL_pb2.Block, str]:
    """A function's block and the opset that it is written in."""
    body = function.block_specializations.get(function.opset)
    if body is None:
        raise ProgramError(f"no body for the function's opset {function.opset!r}")
    if function.opset not in OPSETS:
        raise ProgramError(f"opset {function.opset!r} is unknown; known: {', '.join(OPSETS)}")
    return body, OPSETS[function.opset]


class _Builder:
    """Builds blocks. A constant is forgotten when all that read its name have been built.

    Otherwise a program's weights would be in memory two or three times while it loads: as they lie
    in the file, decompressed, and widened.
    """

    def __init__(self, opset: str, values: Values, uses: Counter[str]):
        self._opset = opset
        self._values = values
        self._uses = uses

    def block(
        self,
        spec: MIL_pb2.Block,
        inputs: tuple[NamedType, ...],
        visible: set[str],
        constants: dict[str, Known],
    ) -> Block:
        """Builds a block that sees the names ``visible`` and the ``constants`` around it."""
        visible, constants = set(visible), dict(constants)
        defined = {i.name for i in inputs}
        instructions = []
        for operation in spec.operations:
            outputs = tuple(NamedType(o.name, read_type(o.type)) for o in operation.outputs)
            for output in outputs:
                if output.name in defined:
                    raise ProgramError(f"the value {output.name!r} is defined twice")
                defined.add(output.name)
            if operation.type == "const":
                constants |= self._constant(operation, outputs)
                continue
            if operation.type.startswith(_CONSTEXPR):
                constants |= self._decompressed(operation, outputs, visible, constants)
                continue
            instructions.append(self._instruction(operation, outputs, visible, constants))
            visible |= {o.name for o in outputs}
        return Block(
            inputs,
            tuple(instructions),
            tuple(
                self._slot(name, visible, constants, "the block's outputs") for name in spec.outputs
            ),
        )

    def _constant(
        self, operation: MIL_pb2.Operation, outputs: tuple[NamedType, ...]
    ) -> dict[str, Known]:
        if len(outputs) != 1 or "val" not in operation.attributes:
            raise ProgramError("a const needs one output and a value")
        output, spec = outputs[0], operation.attributes["val"]

        def read() -> Constant:
            value = self._values.read(spec)
            if not isinstance(output.type, TensorType) or not output.type.accepts(value):
                raise ProgramError(
                    f"const {output.name!r} is {describe(value)}, declared {output.type}"
                )
            return value

        constant = Known(digest(spec), read)
        if not self._uses[output.name]:
            constant.get()  # it may be malformed all the same
        return {output.name: constant}

    def _decompressed(
        self,
        spec: MIL_pb2.Operation,
        outputs: tuple[NamedType, ...],
        visible: set[str],
        constants: dict[str, Known],
    ) -> dict[str, Known]:
        """The results of a constexpr operation: those of an equal one if they are in use.

        Then its data is not even read. So functions of a program share their weights.
        """
        names = [b.name for i in spec.inputs.values() for b in i.arguments if b.name]
        key = key_of(spec, self._opset, constants), tuple(o.type for o in outputs)
        results = [self._values.find((key, place)) for place in range(len(outputs))]
        if any(result is None for result in results):
            results = execute(self._instruction(spec, outputs, visible, constants), {})
            for place, result in enumerate(results):
                self._values.remember((key, place), result)
        else:
            for name in names:
                self._take(name, constants)
        return {
            output.name: Known((key, place), lambda result=result: result)
            for place, (output, result) in enumerate(zip(outputs, results, strict=True))
        }

    def _instruction(
        self,
        spec: MIL_pb2.Operation,
        outputs: tuple[NamedType, ...],
        visible: set[str],
        constants: dict[str, Known],
    ) -> Instruction:
        name = _name(spec, outputs)
        where = f"{spec.type} {name!r}"
        # Up to iOS17 constexpr operations carry their arguments as attributes, later as inputs.
        arguments: dict[str, tuple[Slot, ...]] = {
            key: (self._values.read(value),)
            for key, value in spec.attributes.items()
            if key != "name"
        }
        for key, argument in spec.inputs.items():
            arguments[key] = tuple(
                self._slot(b.name, visible, constants, where)
                if b.WhichOneof("binding") == "name"
                else self._values.read(b.value)
                for b in argument.arguments
            )
        kernel = find(spec.type, self._opset)
        _check_arguments(where, kernel, arguments, bool(spec.blocks))
        operation = Operation(
            spec.type,
            name,
            {
                key: tuple(b.name for b in argument.arguments if b.name)
                for key, argument in spec.inputs.items()
            },
            outputs,
        )
        fixed, variables = {}, []
        for key, slots in arguments.items():
            parameter = kernel.parameters[key]
            if parameter.wide:
                slots = tuple(self._values.widen(s) if isinstance(s, Tensor) else s for s in slots)
            if any(isinstance(slot, Name) for slot in slots):
                variables.append((key, parameter, slots))
                continue
            try:
                fixed[key] = parameter.convert(slots if parameter.variadic else slots[0])
            except (TypeError, ValueError, RuntimeError, AttributeError) as error:
                raise ProgramError(f"{where}: argument {key!r}: {error}") from error
        blocks = []
        for nested in spec.blocks:
            inner = tuple(NamedType(i.name, read_type(i.type)) for i in nested.inputs)
            names = visible | {i.name for i in inner}
            blocks.append(self.block(nested, inner, names, constants))
        return Instruction(operation, kernel, fixed, tuple(variables), tuple(blocks))

    def _slot(self, name: str, visible: set[str], constants: dict[str, Known], where: str) -> Slot:
        if name in constants:
            return self._take(name, constants).get()
        if name not in visible:
            raise ProgramError(f"{where}: the value {name!r} is not defined")
        return Name(name)

    def _take(self, name: str, constants: dict[str, Known]) -> Known:
        self._uses[name] -= 1
        return constants[name] if self._uses[name] else constants.pop(name)


def _share_widened(block: Block, values: Values) -> None:
    """Lets operations that only move values have the constants that others take widened."""
    for instruction in block.instructions:
        for key, value in instruction.constants.items():
            if instruction.kernel.parameters[key].moved:
                instruction.constants[key] = values.widest(value)
        for nested in instruction.blocks:
            _share_widened(nested, values)


def _name(spec: MIL_pb2.Operation, outputs: tuple[NamedType, ...]) -> str:
    if "name" in spec.attributes:  # looking it up would create it
        strings = spec.attributes["name"].immediateValue.tensor.strings.values
        if strings:
            return strings[0]
    return outputs[0].name if outputs else spec.type


def _check_arguments(
    where: str, kernel: Kernel, arguments: dict[str, tuple[Slot, ...]], has_blocks: bool
) -> None:
    known = {k: p for k, p in kernel.parameters.items() if not p.blocks}
    if unknown := sorted(set(arguments) - set(known)):
        raise ProgramError(
            f"{where}: unknown arguments {unknown} for {kernel.op} since {kernel.since}"
        )
    if missing := sorted(k for k, p in known.items() if p.required and k not in arguments):
        raise ProgramError(f"{where}: missing arguments {missing}")
    for key, slots in arguments.items():
        if len(slots) != 1 and not known[key].variadic:
            raise ProgramError(f"{where}: argument {key!r} takes one value, not {len(slots)}")
    if has_blocks != (len(known) != len(kernel.parameters)):
        raise ProgramError(f"{where}: nested blocks where there should be none, or none at all")
