"""Lists of tensors (``iOS15/control_flow.py``).

Elements that were never written are zeros. Writing beyond the end extends a list of dynamic length
and is an error for others. Source: coremltools' tests (``ops/tests/iOS14/test_control_flow.py``,
``TestList``).
"""

from dataclasses import replace

import torch
from torch import Tensor

from pte_foundry.formats.mil_dtypes import BY_NAME
from pte_foundry.mil.parameters import Ints, SymbolicShape
from pte_foundry.mil.registry import op
from pte_foundry.mil.types import TensorList, TensorType

# Limit on the length, against endless loops: elements are written one by one.
MAX_LENGTH = 2**20


def _length(length: int) -> int:
    if not 0 <= length <= MAX_LENGTH:
        raise ValueError(f"a list of {length} elements, expected 0 to {MAX_LENGTH}")
    return length


def _element(ls: TensorList, index: int) -> Tensor:
    if not 0 <= index < len(ls.elements):
        raise ValueError(f"element {index} of a list of {len(ls.elements)}")
    element = ls.elements[index]
    return _zeros(ls, 1)[0] if element is None else element


def _zeros(ls: TensorList, count: int) -> Tensor:
    if None in ls.element.shape:
        raise ValueError(f"the shape {ls.element} is unknown until an element is written")
    return torch.zeros((count, *ls.element.shape), dtype=ls.element.dtype.torch)


def _written(ls: TensorList, updates: list[tuple[int, Tensor]]) -> TensorList:
    elements, element = list(ls.elements), ls.element
    for index, value in updates:
        if not element.accepts(value):
            raise ValueError(f"{value.dtype}{list(value.shape)} written to a list of {element}")
        # All elements have one shape: the first one determines the unknown sizes.
        element = TensorType(element.dtype, tuple(value.shape))
        if index < 0 or (index >= len(elements) and not ls.dynamic):
            raise ValueError(f"element {index} of a list of {len(elements)}")
        elements.extend([None] * (_length(index + 1) - len(elements)))
        elements[index] = value
    return replace(ls, elements=tuple(elements), element=element)


@op("make_list")
def make_list(
    *,
    elem_shape: SymbolicShape,
    init_length: int = 1,
    dynamic_length: bool = True,
    dtype: str = "fp32",
) -> TensorList:
    if dtype not in ("bool", "fp16", "fp32", "int32"):
        raise ValueError(f"a list of {dtype!r}, expected bool, fp16, fp32 or int32")
    element = TensorType(BY_NAME[dtype], elem_shape)
    return TensorList((None,) * _length(init_length), element, dynamic_length)


@op("list_length")
def list_length(*, ls: TensorList) -> Tensor:
    return torch.tensor(len(ls.elements), dtype=torch.int32)


@op("list_read")
def list_read(*, ls: TensorList, index: int) -> Tensor:
    return _element(ls, index)


@op("list_gather")
def list_gather(*, ls: TensorList, indices: Ints) -> Tensor:
    return torch.stack([_element(ls, i) for i in indices]) if indices else _zeros(ls, 0)


@op("list_write")
def list_write(*, ls: TensorList, index: int, value: Tensor) -> TensorList:
    return _written(ls, [(index, value)])


@op("list_scatter")
def list_scatter(*, ls: TensorList, indices: Ints, value: Tensor) -> TensorList:
    # A repeated index keeps the last value; the documentation does not specify it.
    return _written(ls, list(zip(indices, value.unbind(), strict=True)))
