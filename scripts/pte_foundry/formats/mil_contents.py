"""Contents of an ML program, counted: operations by type, weights and float dtypes in bytes.

Reads the ``Block`` protobuf (coremltools 9.0, ``mlmodel/format/MIL.proto``). Dtypes are named as
the protobuf's enumeration names them, in lower case: "float16", "int4".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from pte_foundry.upstream.coremltools_protobuf import MIL_pb2

CONSTEXPR = "constexpr_"
"""How the names of the operations begin that decompress weights at load."""

_FLOATS = ("float16", "float32")
# Operations that only carry values or change their dtype.
_NOT_COMPUTE = ("const", "cast", "identity", "read_state", "write_state", "coreml_update_state")


def walk_operations(block: MIL_pb2.Block) -> Iterator[MIL_pb2.Operation]:
    """All operations of a block in order, each followed by those of its nested blocks."""
    for operation in block.operations:
        yield operation
        for nested in operation.blocks:
            yield from walk_operations(nested)


def count_ops(block: MIL_pb2.Block) -> dict[str, int]:
    """Number of operations by type, nested blocks included, ``const`` left out."""
    types = Counter(operation.type for operation in walk_operations(block))
    return {name: count for name, count in sorted(types.items()) if name != "const"}


def weigh(block: MIL_pb2.Block) -> dict[str, int]:
    """Bytes of the weights in ``weight.bin`` that the block refers to, by dtype."""
    weights: Counter[str] = Counter()
    for _, dtype, size in _stored(block):
        weights[dtype] += size
    return dict(sorted(weights.items()))


def weights_by_offset(block: MIL_pb2.Block) -> dict[int, tuple[str, int]]:
    """Dtype and bytes of the weights that the block refers to, by their place in the file."""
    return {offset: (dtype, size) for offset, dtype, size in _stored(block)}


def _stored(block: MIL_pb2.Block) -> Iterator[tuple[int, str, int]]:
    """Offset in ``weight.bin``, dtype and bytes of each reference to a weight."""
    for operation in walk_operations(block):
        values = [*operation.attributes.values()]  # iOS16 keeps compressed weights there
        values += [
            binding.value for given in operation.inputs.values() for binding in given.arguments
        ]
        for value in values:
            if value.HasField("blobFileValue"):
                tensor = value.type.tensorType
                yield value.blobFileValue.offset, _dtype(tensor), _bytes(tensor)


def weigh_decompressed(block: MIL_pb2.Block) -> dict[str, int]:
    """Bytes of the weights as operations use them, by dtype: decompressed, but not upcast.

    Counts the weights in ``weight.bin`` and the results of ``constexpr_*`` operations, where at
    least one operation other than ``constexpr_*`` reads them.
    """
    read = set(block.outputs)
    for operation in walk_operations(block):
        for nested in operation.blocks:
            read.update(nested.outputs)
        if not operation.type.startswith(CONSTEXPR):
            for given in operation.inputs.values():
                read.update(binding.name for binding in given.arguments)
    weights: Counter[str] = Counter()
    for operation in walk_operations(block):
        stored = operation.type == "const" and operation.attributes["val"].HasField("blobFileValue")
        if stored or operation.type.startswith(CONSTEXPR):
            for output in operation.outputs:
                if output.name in read:
                    tensor = output.type.tensorType
                    weights[_dtype(tensor)] += _bytes(tensor)
    return dict(sorted(weights.items()))


def compute_dtypes(block: MIL_pb2.Block) -> tuple[str, ...]:
    """Float dtypes in which operations compute, taken from the types of their results."""
    found = {
        _dtype(output.type.tensorType)
        for operation in walk_operations(block)
        if operation.type not in _NOT_COMPUTE and not operation.type.startswith(CONSTEXPR)
        for output in operation.outputs
    }
    return tuple(dtype for dtype in _FLOATS if dtype in found)


def bits(dtype: str) -> int:
    """Bits of one element of a dtype; 0 for one that is not a number, and for ``bool``."""
    digits = dtype.removeprefix("b").removeprefix("float").removeprefix("uint").removeprefix("int")
    number = digits.split("e")[0]  # float8e4m3fn
    return int(number) if number.isdigit() else 0


def _bytes(tensor: MIL_pb2.TensorType) -> int:
    count = math.prod(dimension.constant.size for dimension in tensor.dimensions)
    return (count * bits(_dtype(tensor)) + 7) // 8


def _dtype(tensor: MIL_pb2.TensorType) -> str:
    names = {number: name for name, number in MIL_pb2.DataType.items()}
    return names.get(tensor.dataType, "unknown").lower()
