"""What a Core ML program consists of: its operations, weights and float dtypes, counted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from pte_foundry.upstream.coremltools_protobuf import MIL_pb2

_FLOATS = ("float16", "float32")
_CONSTEXPR = "constexpr_"
# They carry values or change their dtype: what computes is between them.
_NOT_COMPUTE = ("const", "cast", "identity", "read_state", "write_state", "coreml_update_state")


def count_ops(block: MIL_pb2.Block) -> dict[str, int]:
    """Number of operations by type, nested blocks included, constants left out."""
    types = Counter(operation.type for operation in _operations(block))
    return {name: count for name, count in sorted(types.items()) if name != "const"}


def weigh(block: MIL_pb2.Block) -> dict[str, int]:
    """Bytes in ``weight.bin`` that the block refers to, by dtype: "float16", "int4", …"""
    weights: Counter[str] = Counter()
    for operation in _operations(block):
        values = [*operation.attributes.values()]  # iOS16 keeps compressed weights there
        values += [
            binding.value for given in operation.inputs.values() for binding in given.arguments
        ]
        for value in values:
            if value.HasField("blobFileValue"):
                tensor = value.type.tensorType
                weights[_dtype(tensor)] += _bytes(tensor)
    return dict(sorted(weights.items()))


def weigh_decompressed(block: MIL_pb2.Block) -> dict[str, int]:
    """Bytes of the weights as operations use them, decompressed, by dtype.

    These are the values in ``weight.bin`` and the results of ``constexpr_*`` operations that others
    than ``constexpr_*`` read.
    """
    read = set(block.outputs)
    for operation in _operations(block):
        for nested in operation.blocks:
            read.update(nested.outputs)
        if not operation.type.startswith(_CONSTEXPR):
            for given in operation.inputs.values():
                read.update(binding.name for binding in given.arguments)
    weights: Counter[str] = Counter()
    for operation in _operations(block):
        stored = operation.type == "const" and operation.attributes["val"].HasField("blobFileValue")
        if stored or operation.type.startswith(_CONSTEXPR):
            for output in operation.outputs:
                if output.name in read:
                    tensor = output.type.tensorType
                    weights[_dtype(tensor)] += _bytes(tensor)
    return dict(sorted(weights.items()))


def compute_dtypes(block: MIL_pb2.Block) -> tuple[str, ...]:
    """The float dtypes in which operations compute, told by their results."""
    found = {
        _dtype(output.type.tensorType)
        for operation in _operations(block)
        if operation.type not in _NOT_COMPUTE and not operation.type.startswith(_CONSTEXPR)
        for output in operation.outputs
    }
    return tuple(dtype for dtype in _FLOATS if dtype in found)


def bits(dtype: str) -> int:
    """Bits of an element of a MIL dtype; 0 if it is not a number."""
    digits = dtype.removeprefix("b").removeprefix("float").removeprefix("uint").removeprefix("int")
    number = digits.split("e")[0]  # float8e4m3fn
    return int(number) if number.isdigit() else 0


def _operations(block: MIL_pb2.Block) -> Iterator[MIL_pb2.Operation]:
    for operation in block.operations:
        yield operation
        for nested in operation.blocks:
            yield from _operations(nested)


def _bytes(tensor: MIL_pb2.TensorType) -> int:
    count = math.prod(dimension.constant.size for dimension in tensor.dimensions)
    return (count * bits(_dtype(tensor)) + 7) // 8


def _dtype(tensor: MIL_pb2.TensorType) -> str:
    names = {number: name for name, number in MIL_pb2.DataType.items()}
    return names.get(tensor.dataType, "unknown").lower()
