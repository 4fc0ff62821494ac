"""Constants as a program writes them: immediate values, and raw bytes from the weight file.

Format: ``Value`` and ``TensorValue`` in ``MIL.proto`` of coremltools 9.0.
:mod:`pte_foundry.mil.constant_pool` decides which constants share memory.
"""

import math

import numpy as np
import torch
from torch import Tensor

from pte_foundry.errors import ProgramError
from pte_foundry.formats.mil_dtypes import BY_NAME, DType
from pte_foundry.formats.weight_blob import bytes_needed, unpack_bits
from pte_foundry.mil.types import TensorType, describe
from pte_foundry.upstream.coremltools_protobuf import MIL_pb2

Constant = Tensor | str | tuple[Tensor | str, ...]
"""A list of constants is a tuple; only ``classify`` takes one, its labels."""

# The repeated field of the format that contains a type's immediate values. All other types are raw
# bytes (coremltools, ``IMMEDIATE_VALUE_TYPES_IN_BYTES``).
_FIELDS = {
    "fp32": "floats",
    "fp64": "doubles",
    "int16": "ints",
    "uint16": "ints",
    "int32": "ints",
    "int64": "longInts",
    "uint64": "longInts",
    "bool": "bools",
    "string": "strings",
}


def decode_immediate(spec: MIL_pb2.TensorValue, declared: TensorType) -> Tensor | str:
    """Decode a value that is written into the program.

    Args:
        declared: its type, of known shape.

    Returns:
        A tensor of the declared shape, or a Python string.

    Raises:
        ProgramError: the value does not match its type, or is a tensor of strings.
    """
    dtype, count = declared.dtype, math.prod(declared.shape)
    field = spec.WhichOneof("value")
    if field != (expected := _FIELDS.get(dtype.name, "bytes")):
        raise ProgramError(
            f"a constant of type {declared} is written as {field}, expected {expected}"
        )
    values = getattr(spec, field).values
    found, needed = (
        (len(values), bytes_needed(dtype, count)) if field == "bytes" else (len(values), count)
    )
    if found != needed:
        unit = "bytes" if field == "bytes" else "values"
        raise ProgramError(f"a constant of type {declared} has {found} {unit}, expected {needed}")
    if field == "strings":
        if declared.shape != ():
            raise ProgramError("a constant is a tensor of strings, which is not supported")
        return values[0]
    if field == "bytes":
        return as_tensor(_unpack(np.frombuffer(values, np.uint8), dtype, count), declared)
    # Through int64: numpy refuses to wrap the values of a damaged program.
    exact = np.array(values, np.float64 if field in ("floats", "doubles") else np.int64)
    return torch.from_numpy(exact).to(dtype.torch).reshape(declared.shape)


def as_tensor(raw: np.ndarray, declared: TensorType) -> Tensor:
    """View raw data as a tensor of the declared type; they share their memory.

    Args:
        raw: flat, as :meth:`pte_foundry.formats.weight_blob.BlobFile.read` returns it.

    Raises:
        ProgramError: the data do not match the type.
    """
    if 0 in declared.shape:  # a weight pruned to nothing; torch views no empty array as fp16
        return torch.empty(declared.shape, dtype=declared.dtype.torch)
    flat = torch.from_numpy(raw)
    tensor = flat if declared.dtype.bits < 8 else flat.view(declared.dtype.torch)
    if not declared.accepts(tensor := tensor.reshape(declared.shape)):
        raise ProgramError(f"a constant is {describe(tensor)}, declared {declared}")
    return tensor


def _unpack(raw: np.ndarray, dtype: DType, count: int) -> np.ndarray:
    if dtype.bits < 8:
        return unpack_bits(raw, dtype.bits, count, signed=dtype is BY_NAME["int4"])
    return raw.copy()
