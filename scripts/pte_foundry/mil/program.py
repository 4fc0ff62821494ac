"""The interface of the interpreter: load a Core ML program, run its functions."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pte_foundry.errors import InputError, ProgramError
from pte_foundry.formats.mil_dtypes import BY_NAME
from pte_foundry.formats.mlpackage import body_of, functions_of, parse_model, read_package
from pte_foundry.formats.weight_blob import BlobFile
from pte_foundry.heap import trim_heap
from pte_foundry.limits import Limits
from pte_foundry.mil import ops  # noqa: F401  (registers the operations)
from pte_foundry.mil.build import build, refuse_unsupported
from pte_foundry.mil.constant_pool import ConstantPool
from pte_foundry.mil.instructions import (
    Block,
    Instruction,
    Name,
    NamedType,
    Operation,
    constants_of,
)
from pte_foundry.mil.limited import limited
from pte_foundry.mil.ops.random import restart_stream
from pte_foundry.mil.plan import run_function
from pte_foundry.mil.run import POLICY, Tap
from pte_foundry.mil.signature import Signature, State, descriptions, numpy_dtype, read_inputs
from pte_foundry.mil.types import DictType, TensorType, Value, type_of
from pte_foundry.upstream.coremltools_protobuf import Model_pb2

# The only string among a program's outputs: the label that a classifier found.
_LABEL = TensorType(BY_NAME["string"], ())

Output = np.ndarray | dict[str, float] | dict[int, float]


class Program:
    """A Core ML program: loaded, checked and decompressed once, run any number of times.

    Make one with :meth:`load` or :meth:`from_parts`.

    Attributes:
        functions: inputs, outputs and states of each function, with names, shapes and dtypes.
        specification_version: of the model (``Model.proto``): 7 is iOS16, 8 iOS17, 9 iOS18, 10
            iOS26.
        policy: how fp16 is computed, in one line for reports.
    """

    policy = POLICY

    def __init__(self, model: Model_pb2.Model, weights: BlobFile | None, limits: Limits):
        self._limits = limits
        with limited(limits):
            self._load(model, weights)
        trim_heap()

    def _load(self, model: Model_pb2.Model, weights: BlobFile | None) -> None:
        functions = functions_of(model)
        refuse_unsupported(functions.values())
        pool = ConstantPool(weights)
        self.specification_version: int = model.specificationVersion
        self.functions: dict[str, Signature] = {}
        self._blocks: dict[str, Block] = {}
        self._shared_memory: dict[str, set[int]] = {}
        for name, function in sorted(functions.items()):
            block = build(function, pool)
            inputs, states = read_inputs(block.inputs, descriptions(model, name))
            outputs = _outputs(block, body_of(function).outputs)
            self._blocks[name] = block
            self.functions[name] = Signature(function.opset, inputs, outputs, states)
            lasting = [*constants_of(block), *(i.default for i in inputs)]
            self._shared_memory[name] = _memory(lasting)

    @classmethod
    def load(cls, path: str | Path, limits: Limits | None = None) -> "Program":
        """Load an ``.mlpackage`` folder, as coremltools saves it.

        The weight file is mapped into memory while it loads.

        Args:
            path: of the folder.
            limits: what loading it, and each of its runs, may take.

        Raises:
            ProgramError: the folder or its contents are malformed, or operations are unsupported
                (the message lists all of them).
            LimitError: a limit is exceeded.
        """
        model, weights = read_package(Path(path))
        try:
            blobs = None if weights is None else BlobFile(weights)
        except OSError as error:
            raise ProgramError(f"{weights} cannot be read: {error}") from error
        return cls(model, blobs, limits or Limits())

    @classmethod
    def from_parts(
        cls, model: bytes, weights: bytes | memoryview | None, limits: Limits | None = None
    ) -> "Program":
        """Load the contents of ``model.mlmodel``, and of ``weight.bin`` if there is one.

        Raises:
            ProgramError: as :meth:`load`.
        """
        blobs = None if weights is None else BlobFile(weights)
        return cls(parse_model(model), blobs, limits or Limits())

    def run(
        self,
        inputs: Mapping[str, np.ndarray],
        function: str = "main",
        state: State | None = None,
        tap: Tap | None = None,
    ) -> dict[str, Output]:
        """Run a function.

        Args:
            inputs: an array for every input without a default, of exactly the declared dtype and
                of a shape that ``functions`` allows.
            function: its name.
            state: from :meth:`make_state`; updated in place. For stateful functions only.
            tap: called with the name and the tensor of every value that is not a constant, as it
                is computed, except lists, labels and dictionaries. It must not modify the tensor.

        Returns:
            The outputs in declared order. They share no memory with inputs or weights. A
            classifier returns its label as an array of rank 0 (a string, or int64), and its
            probabilities as a Python dictionary by label; all other outputs are arrays.

        Raises:
            InputError: inputs or states are wrong; the message lists each of them.
            ProgramError: an operation failed, or its result differs from the declared type.
            LimitError: the run takes more than the program's limits allow.
        """
        with limited(self._limits):
            return self._run(inputs, function, state, tap)

    def _run(
        self,
        inputs: Mapping[str, np.ndarray],
        function: str,
        state: State | None,
        tap: Tap | None,
    ) -> dict[str, Output]:
        signature = self._signature(function)
        scope = signature.accept(inputs, state)
        states = _memory(scope[s.name] for s in signature.states)
        shared = self._shared_memory[function] | states
        restart_stream()
        results = run_function(self._blocks[function], scope, tap)
        if tap is not None:  # it may have kept them
            shared |= _memory(results)
        names = (o.name for o in signature.outputs)
        return {name: _output(result, shared) for name, result in zip(names, results, strict=True)}

    def make_state(self, function: str = "main") -> State:
        """Return new states for a stateful function, all zeros; empty if it has none."""
        with limited(self._limits):
            return self._signature(function).make_state()

    def operations(self, function: str = "main") -> tuple[Operation, ...]:
        """Return the operations of a run in order, without those of nested blocks.

        Raises:
            InputError: the function does not exist.
        """
        self._signature(function)
        return tuple(i.operation for i in self._blocks[function].instructions)

    def operation(self, value_name: str, function: str = "main") -> Operation:
        """Return the operation that produces a value, nested blocks included.

        Raises:
            InputError: no operation produces it: it is a constant, an input, or unknown.
        """
        return self._instruction(value_name, function).operation

    def constants(self, value_name: str, function: str = "main") -> dict[str, Any]:
        """Return the constant arguments of the operation that produces a value, by parameter.

        Tensors must not be modified: they are the program's own.

        Raises:
            InputError: as :meth:`operation`.
        """
        return dict(self._instruction(value_name, function).constants)

    def function(self, name: str) -> "Function":
        """Return a function of the program, whose values have its own names."""
        return Function(self, name)

    def _instruction(self, value_name: str, function: str) -> Instruction:
        self._signature(function)
        blocks = [self._blocks[function]]
        for block in blocks:  # the loop appends to it
            for instruction in block.instructions:
                if any(o.name == value_name for o in instruction.operation.outputs):
                    return instruction
                blocks.extend(instruction.blocks)
        raise InputError(f"no operation of {function!r} produces a value {value_name!r}")

    def _signature(self, function: str) -> Signature:
        if function not in self.functions:
            raise InputError(f"no function {function!r}; there are {', '.join(self.functions)}")
        return self.functions[function]


class Function:
    """A function of a program: the methods of :class:`Program` that look at its operations."""

    def __init__(self, program: Program, name: str) -> None:
        self._program, self._name = program, name

    def operations(self) -> tuple[Operation, ...]:
        """See :meth:`Program.operations`."""
        return self._program.operations(self._name)

    def operation(self, value_name: str) -> Operation:
        """See :meth:`Program.operation`."""
        return self._program.operation(value_name, self._name)

    def constants(self, value_name: str) -> dict[str, Any]:
        """See :meth:`Program.constants`."""
        return self._program.constants(value_name, self._name)


def _outputs(block: Block, names: list[str]) -> tuple[NamedType, ...]:
    types = {i.name: i.type for i in block.inputs}
    types |= {o.name: o.type for i in block.instructions for o in i.operation.outputs}
    outputs = []
    for name, operand in zip(names, block.outputs, strict=True):
        if isinstance(operand, Name):
            declared = types[operand]
        elif isinstance(operand, Tensor):
            declared = type_of(operand)
        else:
            raise ProgramError(f"the output {name!r} is a constant, expected a tensor")
        if isinstance(declared, TensorType):
            if declared != _LABEL:
                numpy_dtype(declared)
        elif not isinstance(declared, DictType):
            raise ProgramError(
                f"the output {name!r} is a {declared}, expected a tensor, a label or a dictionary"
            )
        outputs.append(NamedType(name, declared))
    return tuple(outputs)


def _memory(values: Iterable[Value | None]) -> set[int]:
    """Address of the storage of each tensor; it is the same for all views."""
    return {value.untyped_storage().data_ptr() for value in values if isinstance(value, Tensor)}


def _output(result: Value, shared: set[int]) -> Output:
    """A result for the caller: copied if its memory is in ``shared``, to which it is added."""
    if not isinstance(result, Tensor):
        return np.array(result) if isinstance(result, str) else result
    memory = result.untyped_storage()
    whole = result.is_contiguous() and memory.nbytes() == result.nbytes
    own = whole and memory.data_ptr() not in shared
    shared.add(memory.data_ptr())
    return result.numpy() if own else result.numpy().copy()
