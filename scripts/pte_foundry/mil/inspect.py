"""Says what a Core ML model holds, without running or even loading it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pte_foundry.errors import ProgramError
from pte_foundry.formats.contents import count_ops, weigh, weigh_decompressed
from pte_foundry.mil import ops  # noqa: F401  (registers the operations)
from pte_foundry.mil.program import functions_of, read_package
from pte_foundry.mil.registry import OPSETS, find
from pte_foundry.mil.run import NamedType
from pte_foundry.mil.signature import Input, descriptions, read_inputs
from pte_foundry.mil.types import read_type
from pte_foundry.upstream.coremltools_protobuf import MIL_pb2, Model_pb2


def describe_package(path: Path) -> dict[str, Any]:
    """Describes an ``.mlpackage`` as :func:`describe_model` does.

    Raises:
        ProgramError: it is not a package, or malformed.
    """
    return describe_model(read_package(path)[0])


def describe_model(model: Model_pb2.Model) -> dict[str, Any]:
    """Describes a model in terms of JSON.

    Returns:
        ``specification_version``, ``metadata`` (texts by key, the author's own keys included), and
        for each of ``functions``: ``opset``; ``inputs``, ``outputs`` and ``states`` with name and
        type (inputs also with the shapes that they may have, and a default if they are optional);
        ``ops``, numbers of operations by type, nested blocks included, constants left out;
        ``unsupported``, those of them that the interpreter does not know; ``weight_bytes``, by
        dtype as they lie in the file; ``decompressed_bytes``, by dtype as operations use them.

    Raises:
        ProgramError: it is not an ML program, or malformed.
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
    block = function.block_specializations.get(function.opset)
    if block is None:
        raise ProgramError(f"function {name!r} has no body for its opset {function.opset!r}")
    opset = OPSETS.get(function.opset)
    declared = tuple(NamedType(i.name, read_type(i.type)) for i in function.inputs)
    inputs, states = read_inputs(declared, descriptions(model, name))
    counts = count_ops(block)
    known = {op for op in counts if opset is not None and find(op, opset) is not None}
    return {
        "opset": opset or function.opset,
        "inputs": [_describe_input(i) for i in inputs],
        "outputs": [
            {"name": output, "type": _types(function, block).get(output, "?")}
            for output in block.outputs
        ],
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
        described["default"] = given.default.flatten()[0].item()  # all its elements are the same
    return described | {"accepts": given.describe()}


def _types(function: MIL_pb2.Function, block: MIL_pb2.Block) -> dict[str, str]:
    """The type of every value that can be an output: of inputs and of the outermost operations."""
    named = [*function.inputs, *(o for operation in block.operations for o in operation.outputs)]
    return {value.name: str(read_type(value.type)) for value in named}
