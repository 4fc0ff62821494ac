"""How an operation's arguments reach its function: the annotation says the form.

=====================  ==========================================================================
``Tensor``             as it is
``Moved``              as it is, but an fp16 constant that others take widened comes as theirs:
                       for operations that only move values
``Wide``               a tensor, fp16 widened to fp32: see the policy in :mod:`pte_foundry.mil.run`
``Tensors``, ``Wides`` MIL's tuples of tensors
``Carried``            a tuple of tensors and lists
``TensorList``         a list, as it is
``int``, ``float``,    a rank-0 tensor's value
``bool``, ``str``
``Ints``, ``Bools``    a rank-1 tensor's values
``Sizes``              a tuple of integers; None for a string, which names an unknown size
``Labels``             a constant list of strings or of integers
``Blocks``             the operation's nested blocks, each a function of its block inputs
=====================  ==========================================================================

The conversion happens once, at load, for arguments that are constants.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_args

import torch
from torch import Tensor

from pte_foundry.mil.types import TensorList

Wide = Annotated[Tensor, "fp32"]
Moved = Annotated[Tensor, "moved"]
Tensors = tuple[Tensor, ...]
Wides = tuple[Wide, ...]
Ints = list[int]
Bools = list[bool]
Carried = tuple[Tensor | TensorList, ...]
Sizes = tuple[int | None, ...]
Labels = list[str] | list[int]
Blocks = tuple[Callable[..., Carried], ...]


def widen(value: Tensor) -> Tensor:
    return value.float() if value.dtype == torch.float16 else value


def _string(value: str) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value


def _list(value: TensorList) -> TensorList:
    if not isinstance(value, TensorList):
        raise TypeError("not a list")
    return value


def _labels(values: tuple[Tensor | str, ...]) -> Labels:
    if not isinstance(values, tuple):
        raise TypeError("not a list")
    return [value if isinstance(value, str) else int(value) for value in values]


# int(), float() and bool() raise by themselves for a tensor of more than one element.
_CONVERSIONS: list[tuple[Any, Callable]] = [
    (Tensor, lambda value: value),
    (Moved, lambda value: value),
    (Wide, widen),
    (Tensors, lambda values: values),
    (Wides, lambda values: tuple(map(widen, values))),
    (Carried, lambda values: values),
    (TensorList, _list),
    (Sizes, lambda values: tuple(None if isinstance(v, str) else int(v) for v in values)),
    (Labels, _labels),
    (int, int),
    (float, float),
    (bool, bool),
    (str, _string),
    (Ints, lambda value: [int(v) for v in value.flatten().tolist()]),
    (Bools, lambda value: [bool(v) for v in value.flatten().tolist()]),
    (Blocks, lambda value: value),
]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a registered function."""

    convert: Callable
    required: bool
    wide: bool
    moved: bool
    variadic: bool
    blocks: bool

    @classmethod
    def of(cls, annotation: Any, required: bool) -> "Parameter":
        """Reads an annotation; ``X | None`` is read as ``X``."""
        choices = [annotation, *get_args(annotation)]
        for kind, convert in _CONVERSIONS:
            if kind in choices[:1] or (type(None) in choices and kind in choices):
                return cls(
                    convert,
                    required,
                    wide=kind in (Wide, Wides),
                    moved=kind is Moved,
                    variadic=kind in (Tensors, Wides, Carried, Sizes),
                    blocks=kind is Blocks,
                )
        raise TypeError(f"an operation's parameter cannot be annotated {annotation}")
