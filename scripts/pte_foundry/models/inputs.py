"""The inputs of a model or an exported program as a table, to check configs against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.export import ExportedProgram

from pte_foundry.models.sizes import Size
from pte_foundry.names import program_name

if TYPE_CHECKING:
    from torch import nn

    from pte_foundry.models.module import ModelModule

_UNBOUNDED = 2**31  # torch has symbols for infinity, and large numbers


def inputs_table(program: ExportedProgram, names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Returns the tensors that a program takes as rows, in order.

    Args:
        program: the program.
        names: of its inputs, with dots; by default those that the program itself has.

    Keys of a row: ``name``, ``dtype`` (such as ``float32``), ``shape``: a list of sizes; a dynamic
    size is ``[lowest, highest]``, in which None is no limit.
    """
    inside = set(program.graph_signature.user_inputs)
    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.name in inside}
    known = {program_name(name): name for name in names}
    return [
        {
            "name": known.get(name, name),
            "dtype": _dtype(value),
            "shape": [_size(size, program) for size in value.shape],
        }
        for name, value in values.items()
        if isinstance(value, torch.Tensor)
    ]


def declared_table(model: ModelModule, module: nn.Module, method: str) -> list[dict[str, Any]]:
    """Returns the rows of :func:`inputs_table` before the export: as the module declares them."""
    names, example = model.input_names(module, method), model.example_inputs(method)
    shapes = model.resolve(module)[method].sizes.shapes
    return [
        {
            "name": name,
            "dtype": _dtype(tensor),
            "shape": [[s.low, s.high] if isinstance(s, Size) else s for s in shape],
        }
        for name, tensor, shape in zip(names, example, shapes, strict=True)
    ]


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _size(size: int | torch.SymInt, program: ExportedProgram) -> int | list[int | None]:
    if isinstance(size, int):
        return size
    known = {str(symbol): bounds for symbol, bounds in program.range_constraints.items()}
    bounds = known.get(str(size))
    return [None, None] if bounds is None else [limit(bounds.lower), limit(bounds.upper)]


def limit(bound: Any) -> int | None:
    """Returns an end of a range of torch as a number; None: there is no limit."""
    try:
        value = int(bound)
    except (AttributeError, TypeError, ValueError, OverflowError):  # several kinds of infinity
        return None
    return value if abs(value) < _UNBOUNDED else None
