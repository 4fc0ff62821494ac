"""Parameter types of operations: the annotation selects how an argument reaches the function.

==================  ===========================================================================
``Tensor``          the tensor in its declared dtype, uint16 and uint32 widened (see below)
``Buffer``          a state's own memory, never a copy
``Upcast``          a tensor; fp16 is upcast to fp32, other dtypes stay. For operations that
                    accumulate or round more than once: they compute in fp32, and the loop rounds
                    their result to fp16 once (see ``POLICY`` in :mod:`pte_foundry.mil.run`)
``AnyPrecision``    the tensor in its declared dtype, or an fp16 constant in fp32. For operations
                    that only select elements: they take the fp32 form that another operation's
                    ``Upcast`` parameter needs anyway, instead of a second form in fp16
``Tensors``         a tuple of tensors, each as ``Tensor``
``UpcastTensors``   a tuple of tensors, each as ``Upcast``
``TensorsOrLists``  a tuple of tensors and MIL lists: the variables of a loop
``TensorList``      a MIL list
``int``, ``float``  the value of a tensor of rank 0
``bool``, ``str``   the same
``Ints``, ``Bools`` the values of a tensor of rank 1
``SymbolicShape``   a tuple of integers, None where MIL has a string: the symbol of an unknown size
``ClassLabels``     a constant list of strings or of integers
``Blocks``          the operation's nested blocks, each a function of its block inputs
``ConstantNames``   the names of the operation's arguments that are constants of the program
==================  ===========================================================================

``X | None`` is ``X``, optional. Constant arguments are converted once, at load.

torch stores uint16 and uint32 but neither indexes, compares, sorts nor adds them. Operations
therefore receive them in the next signed dtype, which holds all their values, and the loop narrows
results to the declared dtype (:func:`narrow`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_args

import torch
from torch import Tensor

from pte_foundry.mil.types import TensorList

Buffer = Annotated[Tensor, "the memory of a state"]
Upcast = Annotated[Tensor, "fp16 upcast to fp32"]
AnyPrecision = Annotated[Tensor, "fp16 constants may come in fp32"]
Tensors = tuple[Tensor, ...]
UpcastTensors = tuple[Upcast, ...]
Ints = list[int]
Bools = list[bool]
TensorsOrLists = tuple[Tensor | TensorList, ...]
SymbolicShape = tuple[int | None, ...]
ClassLabels = list[str] | list[int]
Blocks = tuple[Callable[..., TensorsOrLists], ...]
ConstantNames = frozenset[str]


WIDER = {torch.uint16: torch.int32, torch.uint32: torch.int64}
"""The dtypes that operations receive in another one."""


def widen(value: Tensor) -> Tensor:
    """Return a dtype that torch implements only in part as the next signed one."""
    dtype = value.dtype
    return value.to(WIDER[dtype]) if dtype in WIDER else value


def upcast(value: Tensor) -> Tensor:
    """Return fp16 as fp32, other dtypes as :func:`widen`."""
    return value.float() if value.dtype == torch.float16 else widen(value)


def narrow(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a result in its declared dtype if it is in the dtype that stands for it.

    fp32 stands for fp16: this is the one rounding of an operation that computed in fp32.
    """
    wider = torch.float32 if dtype == torch.float16 else WIDER.get(dtype)
    return value.to(dtype) if value.dtype == wider else value


def _string(value: str) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value


def _list(value: TensorList) -> TensorList:
    if not isinstance(value, TensorList):
        raise TypeError("not a list")
    return value


def _labels(values: tuple[Tensor | str, ...]) -> ClassLabels:
    if not isinstance(values, tuple):
        raise TypeError("not a list")
    return [value if isinstance(value, str) else int(value) for value in values]


# int(), float() and bool() raise by themselves for a tensor of more than one element.
_CONVERSIONS: list[tuple[Any, Callable]] = [
    (Tensor, widen),
    (Buffer, lambda value: value),
    (AnyPrecision, widen),
    (Upcast, upcast),
    (Tensors, lambda values: tuple(map(widen, values))),
    (UpcastTensors, lambda values: tuple(map(upcast, values))),
    (TensorsOrLists, lambda values: values),
    (TensorList, _list),
    (SymbolicShape, lambda values: tuple(None if isinstance(v, str) else int(v) for v in values)),
    (ClassLabels, _labels),
    (int, int),
    (float, float),
    (bool, bool),
    (str, _string),
    (Ints, lambda value: [int(v) for v in value.flatten().tolist()]),
    (Bools, lambda value: [bool(v) for v in value.flatten().tolist()]),
    (Blocks, lambda value: value),
    (ConstantNames, lambda value: value),
]
_TENSORS = (Tensor, Buffer, AnyPrecision, Upcast, Tensors, UpcastTensors)


@dataclass(frozen=True)
class Parameter:
    """One parameter of an operation's function.

    Attributes:
        convert: from a value of the program to the function's argument. Raises TypeError,
            ValueError, RuntimeError or AttributeError for a value of the wrong kind.
        required: it has no default.
        upcast: annotated ``Upcast`` or ``UpcastTensors``.
        any_precision: annotated ``AnyPrecision``.
        tensors: takes tensors as such, not their values.
        variadic: takes a tuple of values.
        blocks: takes the nested blocks.
        constant_names: takes the names of the constant arguments.
    """

    convert: Callable
    required: bool
    upcast: bool
    any_precision: bool
    tensors: bool
    variadic: bool
    blocks: bool
    constant_names: bool

    @property
    def implicit(self) -> bool:
        """Whether the loop provides the argument, which is no parameter of MIL."""
        return self.blocks or self.constant_names

    @classmethod
    def of(cls, annotation: Any, required: bool) -> "Parameter":
        """Read an annotation.

        Raises TypeError if it is not one of the types above.
        """
        choices = [annotation, *get_args(annotation)]
        for kind, convert in _CONVERSIONS:
            if kind in choices[:1] or (type(None) in choices and kind in choices):
                return cls(
                    convert,
                    required,
                    upcast=kind in (Upcast, UpcastTensors),
                    any_precision=kind is AnyPrecision,
                    tensors=kind in _TENSORS,
                    variadic=kind in (Tensors, UpcastTensors, TensorsOrLists, SymbolicShape),
                    blocks=kind is Blocks,
                    constant_names=kind is ConstantNames,
                )
        known = ", ".join(getattr(kind, "__name__", str(kind)) for kind, _ in _CONVERSIONS)
        raise TypeError(f"a parameter is annotated {annotation}, expected one of {known}")
