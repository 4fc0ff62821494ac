"""Reads a program's constants: values written into the program, and values in its weight file."""

import ctypes
import math
import os
from collections.abc import Hashable
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from pte_foundry.errors import ProgramError
from pte_foundry.formats.dtypes import BY_NAME, DType
from pte_foundry.formats.weight_blob import BlobFile, bytes_needed, unpack_bits
from pte_foundry.mil.parameters import widen
from pte_foundry.mil.types import ListType, TensorType, describe, read_type
from pte_foundry.upstream.coremltools_protobuf import MIL_pb2

# A list of constants (only ``classify`` takes one: its labels) is a tuple of strings or tensors.
Constant = Tensor | str | tuple[Tensor | str, ...]

# The only weight file that coremltools writes, relative to the folder of model.mlmodel.
WEIGHT_FILE = "@model_path/weights/weight.bin"

# After how much that was widened, and then freed, memory is handed back to the system.
_TRIM_BYTES = 1 << 26

# Which repeated field of the format holds a type's immediate values; the other types are raw bytes
# (coremltools, ``IMMEDIATE_VALUE_TYPES_IN_BYTES``).
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


class Values:
    """Reads values once: several uses of one weight share its memory, within and across functions.

    Args:
        weights: the weight file, or None if the program came without one.
    """

    def __init__(self, weights: BlobFile | None):
        self._weights = weights
        # Weak: most weights are only read to be decompressed or widened. A function that is built
        # later finds what an earlier one computes with.
        self._known: WeakValueDictionary[Hashable, Tensor] = WeakValueDictionary()
        self._wide: WeakValueDictionary[Hashable, Tensor] = WeakValueDictionary()
        self._keys = WeakIdKeyDictionary()
        self._widened = WeakIdKeyDictionary()
        self._widened_bytes = 0

    def read(self, spec: MIL_pb2.Value) -> Constant:
        """Reads one value.

        Returns:
            A tensor of the declared shape and of the dtype that holds the declared type; a Python
            string for a string; a tuple of these for a list.

        Raises:
            ProgramError: the value is not what its type declares, or of a kind that no operation
                takes (tuples, dictionaries).
        """
        declared = read_type(spec.type)
        if isinstance(declared, ListType):
            return tuple(map(self._read_element, spec.immediateValue.list.values))
        if not isinstance(declared, TensorType) or None in (declared.shape or ()):
            raise ProgramError(f"a constant of type {declared} cannot be read")
        if declared.shape is None:
            raise ProgramError("a constant's shape is unknown")
        if spec.WhichOneof("value") == "blobFileValue":
            return self._read_blob(spec.blobFileValue, declared)
        if spec.immediateValue.WhichOneof("value") != "tensor":
            raise ProgramError("a constant holds no tensor")
        return _read_immediate(spec.immediateValue.tensor, declared)

    def find(self, key: Hashable) -> Tensor | None:
        """The tensor that was remembered under a key, if it or what it was widened to is in use."""
        tensor, wide = self._known.get(key), self._wide.get(key)
        if tensor is None and wide is not None:
            tensor = wide.half()  # exactly what was widened
            self.remember(key, tensor)
            self._widened[tensor] = wide
        return tensor

    def remember(self, key: Hashable, tensor: Tensor) -> None:
        """Keeps track of a tensor, so that others that need the same share its memory."""
        self._known[key] = tensor
        self._keys[tensor] = key

    def widen(self, tensor: Tensor) -> Tensor:
        """Widens an fp16 tensor to fp32, once for all that share it."""
        if tensor.dtype != torch.float16:
            return tensor
        if tensor not in self._widened:
            self._widened_bytes += tensor.nbytes
            if self._widened_bytes > _TRIM_BYTES:
                trim()
                self._widened_bytes = 0
            self._widened[tensor] = wide = widen(tensor)
            if tensor in self._keys:
                self._wide[self._keys[tensor]] = wide
        return self._widened[tensor]

    def widest(self, tensor: Tensor) -> Tensor:
        """What a tensor was widened to if it was, else itself."""
        return self._widened.get(tensor, tensor)

    def _read_element(self, spec: MIL_pb2.Value) -> Tensor | str:
        if spec.type.WhichOneof("type") != "tensorType":
            raise ProgramError("a list of constants holds something else than tensors")
        return self.read(spec)

    def _read_blob(self, spec: MIL_pb2.Value.BlobFileValue, declared: TensorType) -> Tensor:
        if spec.fileName != WEIGHT_FILE:
            raise ProgramError(f"weights in {spec.fileName!r}, only {WEIGHT_FILE!r} is read")
        if self._weights is None:
            raise ProgramError("the program refers to weights, but has no weight.bin")
        if declared.dtype.torch is None:
            raise ProgramError("strings cannot lie in the weight file")
        key = (spec.offset, declared)
        if (known := self.find(key)) is None:
            raw = self._weights.read(spec.offset, declared.dtype, math.prod(declared.shape))
            self.remember(key, known := _as_tensor(raw, declared))
        return known


def _read_immediate(spec: MIL_pb2.TensorValue, declared: TensorType) -> Tensor | str:
    dtype, count = declared.dtype, math.prod(declared.shape)
    field = spec.WhichOneof("value")
    if field != _FIELDS.get(dtype.name, "bytes"):
        raise ProgramError(f"a constant of type {declared} is written as {field}")
    values = getattr(spec, field).values
    found, needed = (
        (len(values), bytes_needed(dtype, count)) if field == "bytes" else (len(values), count)
    )
    if found != needed:
        unit = "bytes" if field == "bytes" else "values"
        raise ProgramError(f"a constant of type {declared} has {found} {unit}, needs {needed}")
    if field == "strings":
        if declared.shape != ():
            raise ProgramError("a tensor of strings cannot be read")
        return values[0]
    if field == "bytes":
        return _as_tensor(_unpack(np.frombuffer(values, np.uint8), dtype, count), declared)
    # Through int64: numpy refuses to wrap what a damaged program may hold.
    wide = np.array(values, np.float64 if field in ("floats", "doubles") else np.int64)
    return torch.from_numpy(wide).to(dtype.torch).reshape(declared.shape)


def _unpack(raw: np.ndarray, dtype: DType, count: int) -> np.ndarray:
    if dtype.bits < 8:
        return unpack_bits(raw, dtype.bits, count, signed=dtype is BY_NAME["int4"])
    return raw.copy()


def _as_tensor(raw: np.ndarray, declared: TensorType) -> Tensor:
    flat = torch.from_numpy(raw)
    tensor = flat if declared.dtype.bits < 8 else flat.view(declared.dtype.torch)
    if not declared.accepts(tensor := tensor.reshape(declared.shape)):
        raise ProgramError(f"a constant is {describe(tensor)}, declared {declared}")
    return tensor


def trim() -> None:
    """Hands memory that was freed back to the system; glibc would keep what lies between weights.

    Elsewhere it does nothing.
    """
    release = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if release is not None:
        release(0)
