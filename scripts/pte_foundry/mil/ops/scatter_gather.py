"""Gathering and scattering (``iOS15``, ``iOS16`` and ``iOS17/scatter_gather.py``).

Up to iOS16 negative indices count from the end. From iOS17 on they are out of bounds, and the
result of an index out of bounds is undefined, or an error with ``validate_indices``. Here it is
always an error, so that a program with an undefined result does not pass validation.
"""

import torch
from torch import Tensor

from pte_foundry.mil.parameters import AnyPrecision, Upcast
from pte_foundry.mil.registry import op
from pte_foundry.upstream.torch_division import truncated_quotient


def _resolve(indices: Tensor, size: int, negative: bool) -> Tensor:
    """Indices into ``size`` elements as int64, all checked."""
    indices = indices.to(torch.int64)
    low = -size if negative else 0
    if indices.numel() and (int(indices.min()) < low or int(indices.max()) >= size):
        found = f"{int(indices.min())}..{int(indices.max())}"
        raise IndexError(f"indices {found} of {size} elements are out of bounds")
    return torch.where(indices < 0, indices + size, indices) if negative else indices


def _gather(x: Tensor, indices: Tensor, axis: int, batch_dims: int, negative: bool) -> Tensor:
    axis = axis % x.ndim
    if batch_dims:
        rows = [
            _gather(row, index, axis - 1, batch_dims - 1, negative)
            for row, index in zip(x, indices, strict=True)
        ]
        return torch.stack(rows)
    flat = _resolve(indices, x.shape[axis], negative).reshape(-1)
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    return x.index_select(axis, flat).reshape(shape)


@op("gather")
def gather(*, x: AnyPrecision, indices: Tensor, axis: int = 0, batch_dims: int = 0) -> Tensor:
    return _gather(x, indices, axis, batch_dims, negative=True)


@op("gather", since="iOS17")
def gather_17(
    *,
    x: AnyPrecision,
    indices: Tensor,
    axis: int = 0,
    batch_dims: int = 0,
    validate_indices: bool = False,
) -> Tensor:
    return _gather(x, indices, axis, batch_dims, negative=False)


@op("gather_along_axis")
def gather_along_axis(*, x: AnyPrecision, indices: Tensor, axis: int = 0) -> Tensor:
    return x.gather(axis, _resolve(indices, x.shape[axis], negative=True))


@op("gather_along_axis", since="iOS17")
def gather_along_axis_17(
    *, x: AnyPrecision, indices: Tensor, axis: int = 0, validate_indices: bool = False
) -> Tensor:
    return x.gather(axis, _resolve(indices, x.shape[axis], negative=False))


def _gather_nd(x: Tensor, indices: Tensor, batch_dims: int, negative: bool) -> Tensor:
    if batch_dims:
        rows = [
            _gather_nd(row, index, batch_dims - 1, negative)
            for row, index in zip(x, indices, strict=True)
        ]
        return torch.stack(rows)
    return x[_coordinates(x, indices, negative)]


def _coordinates(x: Tensor, indices: Tensor, negative: bool) -> tuple[Tensor, ...]:
    """Positions along each of the first dimensions of ``x``, from the last one of ``indices``."""
    parts = zip(indices.unbind(-1), x.shape[: indices.shape[-1]], strict=True)
    return tuple(_resolve(part, size, negative) for part, size in parts)


@op("gather_nd")
def gather_nd(*, x: AnyPrecision, indices: Tensor, batch_dims: int = 0) -> Tensor:
    return _gather_nd(x, indices, batch_dims, negative=True)


@op("gather_nd", since="iOS17")
def gather_nd_17(
    *, x: AnyPrecision, indices: Tensor, batch_dims: int = 0, validate_indices: bool = False
) -> Tensor:
    return _gather_nd(x, indices, batch_dims, negative=False)


def _combine(data: Tensor, places: Tensor, updates: Tensor, mode: str) -> Tensor:
    """Combine ``updates`` into the elements of ``data`` numbered by ``places``.

    Several updates of one element all count; for ``update`` the last one is unspecified.
    """
    flat, updates, places = data.flatten(), updates.reshape(-1), places.reshape(-1)
    match mode:
        case "update":
            result = flat.scatter(0, places, updates)
        case "add":
            result = flat.scatter_add(0, places, updates)
        case "sub":
            result = flat.scatter_add(0, places, -updates)
        case "mul":
            result = flat.scatter_reduce(0, places, updates, "prod")
        case "div":
            divisors = torch.ones_like(flat).scatter_reduce(0, places, updates, "prod")
            divide = torch.div if flat.is_floating_point() else truncated_quotient
            result = divide(flat, divisors)
        case "max" | "min":
            result = flat.scatter_reduce(0, places, updates, f"a{mode}")
        case _:
            raise ValueError(f"unknown mode {mode!r}")
    return result.reshape(data.shape)


def _numbers(data: Tensor) -> Tensor:
    """Flat index of every element, in the shape of the tensor."""
    return torch.arange(data.numel()).reshape(data.shape)


def _scatter(
    data: Tensor, indices: Tensor, updates: Tensor, axis: int, mode: str, negative: bool
) -> Tensor:
    flat = _resolve(indices, data.shape[axis], negative).reshape(-1)
    return _combine(data, _numbers(data).index_select(axis, flat), updates, mode)


@op("scatter")
def scatter(
    *, data: Upcast, indices: Tensor, updates: Upcast, axis: int = 0, mode: str = "add"
) -> Tensor:
    return _scatter(data, indices, updates, axis, mode, negative=True)


@op("scatter", since="iOS17")
def scatter_17(
    *,
    data: Upcast,
    indices: Tensor,
    updates: Upcast,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    return _scatter(data, indices, updates, axis, mode, negative=False)


def _scatter_along_axis(
    data: Tensor, indices: Tensor, updates: Tensor, axis: int, mode: str, negative: bool
) -> Tensor:
    places = _numbers(data).gather(axis, _resolve(indices, data.shape[axis], negative))
    return _combine(data, places, updates, mode)


@op("scatter_along_axis")
def scatter_along_axis(
    *, data: Upcast, indices: Tensor, updates: Upcast, axis: int = 0, mode: str = "add"
) -> Tensor:
    return _scatter_along_axis(data, indices, updates, axis, mode, negative=True)


@op("scatter_along_axis", since="iOS17")
def scatter_along_axis_17(
    *,
    data: Upcast,
    indices: Tensor,
    updates: Upcast,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    return _scatter_along_axis(data, indices, updates, axis, mode, negative=False)


@op("scatter_nd")
def scatter_nd(*, data: Upcast, indices: Tensor, updates: Upcast, mode: str = "add") -> Tensor:
    return _combine(data, _numbers(data)[_coordinates(data, indices, True)], updates, mode)


@op("scatter_nd", since="iOS17")
def scatter_nd_17(
    *,
    data: Upcast,
    indices: Tensor,
    updates: Upcast,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    return _combine(data, _numbers(data)[_coordinates(data, indices, False)], updates, mode)
