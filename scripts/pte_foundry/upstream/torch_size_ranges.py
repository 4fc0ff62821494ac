"""Gives dynamic sizes back the lower limit that torch and ExecuTorch raise to two.

Stands against: torch 2.13.0, executorch 1.5.1
Repairs: the lower limit of dynamic sizes. torch traces a dynamic size as one of at least 2. An
    exported program still has the limit of a ``Dim`` (0 if it has none) but not that of a
    ``Dim.AUTO`` or ``Dim.DYNAMIC``, and an edge program has 2 for all of them
    (``_get_updated_range_constraints`` in ``executorch/exir/program/_program.py``). So a Core ML
    program for batches of 1 to 8 refuses a batch of one, and one for prompts the next token.
Remove when: an edge program keeps the ``range_constraints`` of the program it is made from.

A program that was traced with at least 2 need not be right for 1:
``pte_foundry.lowering.shape_bounds`` runs it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

_SMALLEST = 1
"""Core ML has no empty tensors."""


def restore_declared(program: ExportedProgram, specs: Sequence[Any]) -> None:
    """Sets the lower limits of an exported program as its ``dynamic_shapes`` have them, or to 1.

    Args:
        program: changed in place.
        specs: ``dynamic_shapes`` of each input, in order.
    """
    known = _limits(program)
    low: dict[str, int] = {}
    for value, spec in zip(_inputs(program), specs, strict=True):
        for axis, size in _dynamic(value):
            given = axis_spec(spec, axis)
            hint = isinstance(given, type(Dim.AUTO))
            least = given.min if hint else int(known[size].lower) if size in known else None
            low[size] = max(low.get(size, _SMALLEST), least or _SMALLEST)
    _set(program, low)


def restore(program: ExportedProgram, source: ExportedProgram) -> None:
    """Sets the lower limits of a program to those of the one that it was made from.

    Args:
        program: changed in place.
        source: has the same inputs.
    """
    known = _limits(source)
    low: dict[str, int] = {}
    for value, original in zip(_inputs(program), _inputs(source), strict=True):
        sizes = dict(_dynamic(original))
        for axis, size in _dynamic(value):
            if sizes.get(axis) in known:
                low[size] = max(int(known[sizes[axis]].lower), _SMALLEST)
    _set(program, low)


def axis_spec(spec: Any, axis: int) -> Any:
    """Returns what ``dynamic_shapes`` of an input says about one dimension; None: nothing."""
    if isinstance(spec, dict):
        return spec.get(axis)
    return spec[axis] if isinstance(spec, list | tuple) and axis < len(spec) else None


def _inputs(program: ExportedProgram) -> Iterator[torch.Tensor]:
    inside = set(program.graph_signature.user_inputs)
    values = (node.meta.get("val") for node in program.graph.nodes if node.name in inside)
    return (value for value in values if isinstance(value, torch.Tensor))


def _dynamic(value: torch.Tensor) -> Iterator[tuple[int, str]]:
    sizes = enumerate(value.shape)
    return ((axis, str(size)) for axis, size in sizes if isinstance(size, torch.SymInt))


def _limits(program: ExportedProgram) -> dict[str, Any]:
    return {str(symbol): limits for symbol, limits in program.range_constraints.items()}


def _set(program: ExportedProgram, low: dict[str, int]) -> None:
    for symbol, limits in program.range_constraints.items():
        if (least := low.get(str(symbol))) is not None and int(limits.lower) != least:
            program.range_constraints[symbol] = type(limits)(least, limits.upper)
