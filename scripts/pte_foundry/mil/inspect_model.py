"""Description of a Core ML model from its protobuf: nothing is executed, no weight is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pte_foundry.formats.mil_contents import count_ops, weigh, weigh_decompressed
from pte_foundry.formats.mlpackage import body_of, functions_of, read_package
from pte_foundry.mil import ops  # noqa: F401  (registers the operations)
from pte_foundry.mil.instructions import NamedType
from pte_foundry.mil.registry import OPSETS, find
from pte_foundry.mil.signature import Input, descriptions, read_inputs
from pte_foundry.mil.types import read_type
from pte_foundry.upstream.coremltools_protobuf import MIL_pb2, Model_pb2


def describe_package(path: Path) -> dict[str, Any]:
    """Describe an ``.mlpackage`` folder as :func:`describe_model` does.

    Raises:
        ProgramError: it is no package, or malformed.
    """
    return describe_model(read_package(path)[0])


def describe_model(model: Model_pb2.Model) -> dict[str, Any]:
    """Describe a model as a dict of JSON types.

    Returns:
        ``specification_version``; ``metadata``, strings by key, user-defined keys included; and
        ``functions``, for each: ``opset``; ``inputs``, ``outputs`` and ``states`` with name and
        type (inputs also with the allowed shapes, and a default if they are optional); ``ops``,
        number of operations by type, nested blocks included, constants left out; ``unsupported``,
        those that the interpreter does not implement; ``weight_bytes`` in the file, and
        ``decompressed_bytes`` as operations use them, both by dtype.

    Raises:
        ProgramError: the model is no ML program, or malformed.
    """
    functions = functions_of(model)
    meta = model.description.metadata
    texts = {
        "description": meta.shortDescription,
        "author": meta.author,
        "version": meta.versionString,
        "license": meta.license,
        **meta.userDefined,
    }
    return {
        "specification_version": model.specificationVersion,
        "metadata": {key: text for key, text in sorted(texts.items()) if text},
        "functions": {
            name: _describe_function(model, name, function)
            for name, function in sorted(functions.items())
        },
    }


def _describe_function(
    model: Model_pb2.Model, name: str, function: MIL_pb2.Function
) -> dict[str, Any]:
    block = body_of(function)
    opset = OPSETS.get(function.opset)
    declared = tuple(NamedType(i.name, read_type(i.type)) for i in function.inputs)
    inputs, states = read_inputs(declared, descriptions(model, name))
    counts = count_ops(block)
    types = _types(function, block)
    known = {op for op in counts if opset is not None and find(op, opset) is not None}
    return {
        "opset": opset or function.opset,
        "inputs": [_describe_input(i) for i in inputs],
        "outputs": [{"name": output, "type": types.get(output, "?")} for output in block.outputs],
        "states": [{"name": s.name, "type": str(s.type.tensor)} for s in states],
        "ops": counts,
        "unsupported": {op: count for op, count in counts.items() if op not in known},
        "weight_bytes": weigh(block),
        "decompressed_bytes": weigh_decompressed(block),
    }


def _describe_input(given: Input) -> dict[str, Any]:
    described: dict[str, Any] = {"name": given.name, "type": str(given.type)}
    if given.shapes:
        described["shapes"] = [list(shape) for shape in given.shapes]
    if given.ranges:
        described["ranges"] = [list(bounds) for bounds in given.ranges]
    if given.default is not None and given.default.numel():
        described["default"] = given.default.flatten()[0].item()  # all elements are equal
    return described | {"accepts": given.describe()}


def _types(function: MIL_pb2.Function, block: MIL_pb2.Block) -> dict[str, str]:
    """Type of every value that can be an output: inputs, and results outside of nested blocks."""
    named = [*function.inputs, *(o for operation in block.operations for o in operation.outputs)]
    return {value.name: str(read_type(value.type)) for value in named}
