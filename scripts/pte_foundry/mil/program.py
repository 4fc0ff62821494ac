"""Core ML programs as files, and the interface to run them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from torch import Tensor

from pte_foundry.errors import InputError, ProgramError
from pte_foundry.formats.dtypes import BY_NAME
from pte_foundry.formats.weight_blob import BlobFile
from pte_foundry.mil import ops  # noqa: F401  (registers the operations)
from pte_foundry.mil.build import build, refuse_unsupported
from pte_foundry.mil.ops.random import restart_stream
from pte_foundry.mil.run import (
    POLICY,
    Block,
    Instruction,
    Name,
    NamedType,
    Operation,
    Tap,
    constants_of,
    run_block,
)
from pte_foundry.mil.signature import Signature, State, descriptions, numpy_dtype, read_inputs
from pte_foundry.mil.types import DictType, TensorType, Value, type_of
from pte_foundry.mil.values import Values, trim
from pte_foundry.upstream.coremltools_protobuf import MIL_pb2, Model_pb2

# The only strings that a program gives: the label that a classifier found.
_LABEL = TensorType(BY_NAME["string"], ())

Output = np.ndarray | dict[str, float] | dict[int, float]


class Program:
    """A Core ML program: loaded, checked and decompressed once, run any number of times.

    Attributes:
        functions: per function its inputs, outputs and states, with names, shapes and dtypes.
        specification_version: of the model; 7 is iOS16, 8 iOS17, 9 iOS18, 10 iOS26.
        policy: how fp16 is computed, in one line for reports.
    """

    policy = POLICY

    def __init__(self, model: Model_pb2.Model, weights: BlobFile | None):
        functions = functions_of(model)
        refuse_unsupported(functions.values())
        values = Values(weights)
        self.specification_version: int = model.specificationVersion
        self.functions: dict[str, Signature] = {}
        self._blocks: dict[str, Block] = {}
        self._lasting: dict[str, set[int]] = {}
        for name, function in sorted(functions.items()):
            block = build(function, values)
            inputs, states = read_inputs(block.inputs, descriptions(model, name))
            outputs = _outputs(block, function.block_specializations[function.opset].outputs)
            self._blocks[name] = block
            self.functions[name] = Signature(function.opset, inputs, outputs, states)
            self._lasting[name] = _memory([*constants_of(block), *(i.default for i in inputs)])
        trim()

    @classmethod
    def load(cls, path: str | Path) -> "Program":
        """Loads a ``.mlpackage`` folder, as coremltools saves it.

        Raises:
            ProgramError: the folder or what it holds is malformed, or some operations are not
                supported (all of them are named).
        """
        model, weights = read_package(Path(path))
        return cls(model, BlobFile(weights) if weights.is_file() else None)

    @classmethod
    def from_parts(cls, model: bytes, weights: bytes | memoryview | None) -> "Program":
        """Loads the contents of ``model.mlmodel`` and of ``weight.bin``, if there is one.

        Raises:
            ProgramError: as :meth:`load`.
        """
        return cls(_parse(model), None if weights is None else BlobFile(weights))

    def run(
        self,
        inputs: Mapping[str, np.ndarray],
        function: str = "main",
        state: State | None = None,
        tap: Tap | None = None,
    ) -> dict[str, Output]:
        """Runs a function.

        Args:
            inputs: an array of exactly the declared dtype for every input that has no default.
            state: what :meth:`make_state` gave; updated in place. Only for stateful functions.
            tap: called with the name and the tensor of every value that is not a constant, as it
                is produced; not with lists, labels and dictionaries. The tensor must not be
                changed.

        Returns:
            The outputs in declared order; they share no memory with inputs or weights. All are
            arrays but one: a classifier gives its label as an array of rank 0 (of a string, or
            int64), and its probabilities as a Python dictionary by label.

        Raises:
            InputError: wrong inputs or states; names each of them.
            ProgramError: an operation failed or contradicted its declared type.
        """
        signature = self._signature(function)
        scope = signature.accept(inputs, state)
        shared = self._lasting[function] | _memory(scope[s.name] for s in signature.states)
        restart_stream()
        results = run_block(self._blocks[function], scope, tap)
        if tap is not None:  # its owner may have kept them
            shared |= _memory(results)
        names = (o.name for o in signature.outputs)
        return {name: _output(result, shared) for name, result in zip(names, results, strict=True)}

    def make_state(self, function: str = "main") -> State:
        """New states for a stateful function, all zeros; empty if it has none."""
        return self._signature(function).make_state()

    def operations(self, function: str = "main") -> tuple[Operation, ...]:
        """The operations that a run executes, in order, without those of nested blocks."""
        self._signature(function)
        return tuple(i.operation for i in self._blocks[function].instructions)

    def operation(self, value_name: str, function: str = "main") -> Operation:
        """The operation that produces a value, nested blocks included.

        Raises:
            InputError: no operation produces it: a constant, an input, or an unknown name.
        """
        return self._instruction(value_name, function).operation

    def constants(self, value_name: str, function: str = "main") -> dict[str, Any]:
        """The constant arguments of the operation that produces a value, by parameter.

        Tensors must not be changed: the program computes with them.

        Raises:
            InputError: as :meth:`operation`.
        """
        return dict(self._instruction(value_name, function).constants)

    def _instruction(self, value_name: str, function: str) -> Instruction:
        self._signature(function)
        blocks = [self._blocks[function]]
        for block in blocks:  # grows while it is walked
            for instruction in block.instructions:
                if any(o.name == value_name for o in instruction.operation.outputs):
                    return instruction
                blocks.extend(instruction.blocks)
        raise InputError(f"no operation of {function!r} produces a value {value_name!r}")

    def _signature(self, function: str) -> Signature:
        if function not in self.functions:
            raise InputError(f"no function {function!r}; there are {', '.join(self.functions)}")
        return self.functions[function]


def functions_of(model: Model_pb2.Model) -> Mapping[str, MIL_pb2.Function]:
    """The functions of an ML program by name. Raises ProgramError if the model is none."""
    if model.WhichOneof("Type") != "mlProgram":
        raise ProgramError(f"the model is a {model.WhichOneof('Type')}, not an ML program")
    return model.mlProgram.functions


def read_package(package: Path) -> tuple[Model_pb2.Model, Path]:
    """Reads the model of an ``.mlpackage``.

    Returns:
        The model, and where its weight file is if it has one.

    Raises:
        ProgramError: the folder or what it holds is malformed.
    """
    model = _model_file(package)
    return _parse(model.read_bytes()), model.parent / "weights" / "weight.bin"


def _model_file(package: Path) -> Path:
    """The model file that a package's manifest names as its root, inside the package."""
    try:
        manifest = json.loads((package / "Manifest.json").read_bytes())
        root = manifest["rootModelIdentifier"]
        inside = PurePosixPath(manifest["itemInfoEntries"][root]["path"])
    except OSError as error:
        raise ProgramError(f"{package} is not an .mlpackage: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ProgramError(f"{package / 'Manifest.json'} is malformed: {error!r}") from error
    if inside.is_absolute() or ".." in inside.parts:
        raise ProgramError(f"the manifest's model path {str(inside)!r} leaves the package")
    model = package / "Data" / inside
    if not model.is_file():
        raise ProgramError(f"the package has no file {model.relative_to(package)}")
    return model


def _parse(model: bytes) -> Model_pb2.Model:
    try:
        return Model_pb2.Model.FromString(model)
    except DecodeError as error:
        raise ProgramError(f"model.mlmodel is not a Core ML model: {error}") from error


def _outputs(block: Block, names: list[str]) -> tuple[NamedType, ...]:
    types = {i.name: i.type for i in block.inputs}
    types |= {o.name: o.type for i in block.instructions for o in i.operation.outputs}
    outputs = []
    for name, slot in zip(names, block.outputs, strict=True):
        if isinstance(slot, Name):
            declared = types[slot]
        elif isinstance(slot, Tensor):
            declared = type_of(slot)
        else:
            raise ProgramError(f"the output {name!r} is a constant that is not a tensor")
        if isinstance(declared, TensorType):
            if declared != _LABEL:
                numpy_dtype(declared)
        elif not isinstance(declared, DictType):
            raise ProgramError(f"the output {name!r} is a {declared}, which no program can give")
        outputs.append(NamedType(name, declared))
    return tuple(outputs)


def _memory(values: Iterable[Value | None]) -> set[int]:
    """Where the memory of each tensor begins; all its views have the same."""
    return {value.untyped_storage().data_ptr() for value in values if isinstance(value, Tensor)}


def _output(result: Value, shared: set[int]) -> Output:
    """A result as it is given away: copied if its memory is ``shared``, to which it is added."""
    if not isinstance(result, Tensor):
        return np.array(result) if isinstance(result, str) else result
    memory = result.untyped_storage()
    whole = result.is_contiguous() and memory.nbytes() == result.nbytes
    own = whole and memory.data_ptr() not in shared
    shared.add(memory.data_ptr())
    return result.numpy() if own else result.numpy().copy()
