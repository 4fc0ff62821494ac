"""MIL's value types, declared (``ValueType`` in coremltools 9.0's ``MIL.proto``) and computed."""

import math
from dataclasses import dataclass

from torch import Tensor

from pte_foundry.errors import ProgramError
from pte_foundry.formats.mil_dtypes import DTYPES, MAX_ELEMENTS, DType
from pte_foundry.upstream.coremltools_protobuf import MIL_pb2


@dataclass(frozen=True)
class TensorType:
    """A tensor's declared type.

    Attributes:
        dtype: of the elements.
        shape: None in it is a size known only at run time; None for it is a rank known only at run
            time. The format has no symbols, so two unknown sizes are unrelated.
    """

    dtype: DType
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype.name}[...]"
        return f"{self.dtype.name}[{', '.join('?' if n is None else str(n) for n in self.shape)}]"

    def accepts_shape(self, shape: tuple[int, ...]) -> bool:
        """Whether a shape matches, where the type declares sizes."""
        if self.shape is None or shape == self.shape:
            return True
        if len(shape) != len(self.shape):
            return False
        # A loop, because it runs for every value and all() takes twice as long.
        for want, got in zip(self.shape, shape, strict=True):
            if want is not None and want != got:
                return False
        return True

    def accepts(self, value: object) -> bool:
        """Whether a computed value is of this type."""
        if isinstance(value, str):
            return self.dtype.torch is None and self.shape == ()
        return (
            isinstance(value, Tensor)
            and value.dtype == self.dtype.torch
            and self.accepts_shape(value.shape)
        )


@dataclass(frozen=True)
class ListType:
    """A list of tensors of one type.

    Its length is not checked: for a list of dynamic length the format has the initial one.
    """

    element: TensorType

    def __str__(self) -> str:
        return f"list[{self.element}]"

    def accepts(self, value: object) -> bool:
        """Whether a value is a list of such elements; an unknown size matches any."""
        if not isinstance(value, TensorList) or value.element.dtype != self.element.dtype:
            return False
        want, got = self.element.shape, value.element.shape
        if want is None or got is None:
            return True
        return len(want) == len(got) and all(
            a is None or b is None or a == b for a, b in zip(want, got, strict=True)
        )


@dataclass(frozen=True)
class TensorList:
    """A list's value. It is immutable: operations that write return a new one.

    Attributes:
        elements: None where nothing is written yet.
        element: type of an element; sizes may be unknown until the first one is written.
        dynamic: whether writing beyond the end extends the list.
    """

    elements: tuple[Tensor | None, ...]
    element: TensorType
    dynamic: bool


@dataclass(frozen=True)
class DictType:
    """A dictionary; its value is a Python dictionary. ``classify`` returns probabilities so."""

    key: TensorType
    value: TensorType

    def __str__(self) -> str:
        return f"dict[{self.key}, {self.value}]"

    def accepts(self, value: object) -> bool:
        """Whether a value is a dictionary whose keys are of this type."""
        key = str if self.key.dtype.torch is None else int
        return isinstance(value, dict) and all(isinstance(k, key) for k in value)


@dataclass(frozen=True)
class StateType:
    """A buffer that a program reads and writes; it persists between runs."""

    tensor: TensorType

    def __str__(self) -> str:
        return f"state[{self.tensor}]"

    def accepts(self, value: object) -> bool:
        """Never: states come from the caller, no operation returns one."""
        return False


@dataclass(frozen=True)
class OtherType:
    """A type that no operation returns: a tuple, or a list of elements other than tensors."""

    kind: str

    def __str__(self) -> str:
        return self.kind

    def accepts(self, value: object) -> bool:
        """Never."""
        return False


ValueType = TensorType | ListType | DictType | StateType | OtherType

Value = Tensor | str | TensorList | dict[str, float] | dict[int, float]
"""A value of a running program."""


def type_of(value: Tensor) -> TensorType:
    """Return the type of a computed or constant value.

    Raises:
        ProgramError: MIL has no such dtype.
    """
    for dtype in DTYPES.values():
        if dtype.torch == value.dtype and dtype.bits >= 8:
            return TensorType(dtype, tuple(value.shape))
    raise ProgramError(f"MIL has no data type for {value.dtype}")


def describe(value: object) -> str:
    """Format the type of a computed value like a declared :class:`TensorType`."""
    if isinstance(value, TensorList):
        return str(ListType(value.element))
    return str(type_of(value)) if isinstance(value, Tensor) else type(value).__name__


def read_type(spec: MIL_pb2.ValueType) -> ValueType:
    """Read a declared type.

    Raises:
        ProgramError: the data type is unknown, the rank contradicts the dimensions, or the size is
            beyond :data:`pte_foundry.formats.mil_dtypes.MAX_ELEMENTS`.
    """
    kind = spec.WhichOneof("type")
    if kind == "stateType":
        wrapped = read_type(spec.stateType.wrappedType)
        if not isinstance(wrapped, TensorType):
            raise ProgramError("a state has no tensor type")
        return StateType(wrapped)
    if kind == "listType":
        element = read_type(spec.listType.type)
        return ListType(element) if isinstance(element, TensorType) else OtherType(kind)
    if kind == "dictionaryType":
        key, value = (
            read_type(t) for t in (spec.dictionaryType.keyType, spec.dictionaryType.valueType)
        )
        tensors = isinstance(key, TensorType) and isinstance(value, TensorType)
        return DictType(key, value) if tensors else OtherType(kind)
    if kind != "tensorType":
        return OtherType(kind or "nothing")
    return _read_tensor_type(spec.tensorType)


def _read_tensor_type(tensor: MIL_pb2.TensorType) -> TensorType:
    if tensor.dataType not in DTYPES:
        raise ProgramError(f"unknown data type {tensor.dataType}")
    if any(d.unknown.variadic for d in tensor.dimensions) or tensor.rank < 0:
        return TensorType(DTYPES[tensor.dataType], None)
    if tensor.rank != len(tensor.dimensions):
        raise ProgramError(f"rank {tensor.rank} declared with {len(tensor.dimensions)} dimensions")
    shape = tuple(
        d.constant.size if d.WhichOneof("dimension") == "constant" else None
        for d in tensor.dimensions
    )
    # Without the zeros: torch computes with the other sizes, and so may a reader of the type.
    if math.prod(n for n in shape if n) > MAX_ELEMENTS:
        raise ProgramError(f"declared shape {list(shape)} exceeds {MAX_ELEMENTS} elements")
    return TensorType(DTYPES[tensor.dataType], shape)
