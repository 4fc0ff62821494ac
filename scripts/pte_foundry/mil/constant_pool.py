"""A program's constants: read lazily, shared by content, and the memory they take.

Weights decide how much memory a program takes. Each could exist in four forms at once: packed as in
the file, decompressed to fp16, upcast to fp32 for an operation that computes in fp32, and once more
in each function of the program. The rules below keep one: after loading, a program holds each
weight once, in the form that its operations read. While it loads, it holds one weight more.

**The life of a constant.** ``build`` walks the operations of a function in order.

1. ``const``: a :class:`LazyConstant` under the constant's name. Nothing is read yet.
2. ``constexpr_*`` (decompression): executed at once, unless the pool finds the result of an equal
   operation in use, in this function or an earlier one. Then its arguments are not even read.
3. Any other operation takes its constants. Each :meth:`LazyConstant.take` is one of the reads that
   ``build`` counted before; at the last one the LazyConstant drops its value.
4. For an ``Upcast`` parameter the instruction keeps :meth:`ConstantPool.upcast` of the constant.
   Nothing refers to the fp16 form then, and it is freed, unless another operation reads it.
5. After the whole function is built, operations with an ``AnyPrecision`` parameter (gathers) switch
   from the fp16 to the fp32 form if that exists.

**Ownership.** Instructions own constants (strong references from ``Instruction.constants`` and
``Instruction.variables``, and from ``Block.outputs``). LazyConstants own them while a function is
built. The pool owns nothing: its two maps are weak, so that a form disappears with its last reader.

**Sharing.** Two constants share memory if their *keys* are equal: the same offset in the weight
file with the same declared type, or the same ``constexpr_*`` operation at the same opset on
arguments with the same keys (:func:`operation_key`). A key therefore stands for one content. Under
a key the pool has at most two tensors: the one as declared, and its fp32 form. Values that are
written into the program are not shared: coremltools writes floats of fewer than ten elements there
(``should_use_weight_file`` in ``backend/mil/load.py``).

**Invariants**, on which all of this rests:

- A constant is never written to: functions, runs and outputs share it. ``Program.run`` copies an
  output whose memory belongs to a constant.
- Reads are counted by name over the whole function, nested blocks included, before it is built. A
  name that is defined in two blocks counts for both, so a count can be too high, which only keeps
  a value until the function is built, and never too low.
- fp16 -> fp32 -> fp16 is exact. If only the fp32 form is in use, :meth:`ConstantPool.find` restores
  the fp16 one from it, under the same key.

For the memory of computed values see :func:`pte_foundry.mil.run.execute`.
``tests/mil/test_mil_memory.py``, ``test_mil_peak.py`` and ``test_mil_sharing.py`` measure it.
"""

import math
from collections.abc import Callable, Hashable, Mapping
from hashlib import sha256
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from pte_foundry import limits
from pte_foundry.errors import ProgramError
from pte_foundry.formats.weight_blob import BlobFile
from pte_foundry.heap import trim_heap
from pte_foundry.mil.constants import Constant, as_tensor, decode_immediate
from pte_foundry.mil.parameters import upcast
from pte_foundry.mil.types import ListType, TensorType, read_type
from pte_foundry.upstream.coremltools_protobuf import MIL_pb2

WEIGHT_FILE = "@model_path/weights/weight.bin"
"""The only weight file that coremltools writes, relative to the folder of ``model.mlmodel``."""

# Bytes of fp16 weights that are upcast, and mostly freed, before the heap is trimmed.
_TRIM_BYTES = 1 << 26

# The two forms of a tensor under one key.
_DECLARED, _UPCAST = "declared", "upcast"


class LazyConstant:
    """A named constant of a function while the function is built.

    Args:
        key: equal for equal content.
        uses: how often the function reads the name.
        read: called at the first use, if there is one.
    """

    def __init__(self, key: Hashable, uses: int, read: Callable[[], Constant]):
        self.key = key
        self._uses = uses
        self._read = read if uses else None
        self._value: Constant | None = None

    def take(self) -> Constant:
        """Return the value for one of its uses; forget it at the last one."""
        value = self._read() if self._value is None else self._value
        self._value = value
        self.skip()
        return value

    def skip(self) -> None:
        """Count one of the uses, without reading the value."""
        self._uses -= 1
        if not self._uses:
            self._value = self._read = None


class ConstantPool:
    """Constants of one program; equal ones share their memory while they are in use.

    Args:
        weights: the weight file, or None if the program has none.
    """

    def __init__(self, weights: BlobFile | None):
        self._weights = weights
        self._tensors: WeakValueDictionary[tuple[Hashable, str], Tensor] = WeakValueDictionary()
        self._keys = WeakIdKeyDictionary()  # of the tensors in their declared form
        self._upcast_bytes = 0

    def read(self, spec: MIL_pb2.Value) -> Constant:
        """Read one value.

        Returns:
            A tensor of the declared shape and of the torch dtype for the declared type; a Python
            string for a string; a tuple of these for a list.

        Raises:
            ProgramError: the value does not match its type, or is of a kind that no operation takes
                (a tuple, a dictionary).
        """
        declared = read_type(spec.type)
        if isinstance(declared, ListType):
            return tuple(map(self._read_element, spec.immediateValue.list.values))
        if not isinstance(declared, TensorType) or None in (declared.shape or ()):
            raise ProgramError(f"a constant has the unsupported type {declared}")
        if declared.shape is None:
            raise ProgramError("a constant has no declared shape")
        if spec.WhichOneof("value") == "blobFileValue":
            return self._read_blob(spec.blobFileValue, declared)
        if spec.immediateValue.WhichOneof("value") != "tensor":
            raise ProgramError(f"a constant of type {declared} has no tensor as its value")
        return decode_immediate(spec.immediateValue.tensor, declared)

    def find(self, key: Hashable) -> Tensor | None:
        """Return the tensor of a key if it, or its fp32 form, is in use."""
        tensor = self._tensors.get((key, _DECLARED))
        if tensor is None and (wide := self._tensors.get((key, _UPCAST))) is not None:
            tensor = wide.half()  # exact: it was fp16
            self.remember(key, tensor)
        return tensor

    def remember(self, key: Hashable, tensor: Tensor) -> None:
        """Let later readers of the same key share a tensor, as long as it is in use."""
        self._tensors[key, _DECLARED] = tensor
        self._keys[tensor] = key

    def upcast(self, tensor: Tensor) -> Tensor:
        """Upcast an fp16 tensor to fp32, once for all that share it; return others as they are."""
        if tensor.dtype != torch.float16:
            return tensor
        if (shared := self.upcast_if_in_use(tensor)) is not tensor:
            return shared
        self._upcast_bytes += tensor.nbytes
        if self._upcast_bytes > _TRIM_BYTES:
            trim_heap()
            self._upcast_bytes = 0
        wide = upcast(tensor)
        if tensor in self._keys:
            self._tensors[self._keys[tensor], _UPCAST] = wide
        return wide

    def upcast_if_in_use(self, tensor: Tensor) -> Tensor:
        """Return the fp32 form of a tensor if there is one, else the tensor."""
        wide = self._tensors.get((self._keys[tensor], _UPCAST)) if tensor in self._keys else None
        return tensor if wide is None else wide

    def _read_element(self, spec: MIL_pb2.Value) -> Tensor | str:
        if spec.type.WhichOneof("type") != "tensorType":
            raise ProgramError("a list of constants has an element that is no tensor")
        return self.read(spec)

    def _read_blob(self, spec: MIL_pb2.Value.BlobFileValue, declared: TensorType) -> Tensor:
        if spec.fileName != WEIGHT_FILE:
            raise ProgramError(f"weights are in {spec.fileName!r}, expected {WEIGHT_FILE!r}")
        if self._weights is None:
            raise ProgramError("the program refers to weights, but has no weight.bin")
        if declared.dtype.torch is None:
            raise ProgramError("a string is in the weight file, expected a tensor")
        key = (spec.offset, declared)
        if (tensor := self.find(key)) is None:
            count = math.prod(declared.shape)
            limits.allocate(count * declared.dtype.torch.itemsize)
            raw = self._weights.read(spec.offset, declared.dtype, count)
            self.remember(key, tensor := as_tensor(raw, declared))
        return tensor


def value_key(spec: MIL_pb2.Value) -> bytes:
    """Key of a value: a digest of its protobuf, which for weights contains their file offset."""
    return sha256(spec.SerializeToString(deterministic=True)).digest()


def operation_key(
    spec: MIL_pb2.Operation, opset: str, constants: Mapping[str, LazyConstant]
) -> Hashable:
    """Key of an operation's results: equal for equal operations on equal constants."""
    literals = {key: value_key(value) for key, value in spec.attributes.items() if key != "name"}
    arguments = {
        key: tuple(_argument_key(binding, constants) for binding in argument.arguments)
        for key, argument in spec.inputs.items()
    }
    return spec.type, opset, *sorted(literals.items()), *sorted(arguments.items())


def _argument_key(
    binding: MIL_pb2.Argument.Binding, constants: Mapping[str, LazyConstant]
) -> Hashable:
    if binding.WhichOneof("binding") != "name":
        return value_key(binding.value)
    return constants[binding.name].key if binding.name in constants else binding.name
