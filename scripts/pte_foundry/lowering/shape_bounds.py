"""Programs with dynamic sizes: run at the ends of their ranges, or made static."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.export import ExportedProgram

from pte_foundry.errors import ModelError
from pte_foundry.models.bounds import compare, resized, wrong
from pte_foundry.models.containers import leaves
from pte_foundry.models.inputs import inputs_table, limit
from pte_foundry.models.sizes import LARGEST, shown_shapes
from pte_foundry.models.tensors import Sample


def is_dynamic(program: ExportedProgram) -> bool:
    """Whether an input of a program has a dynamic size."""
    return any(isinstance(size, list) for row in inputs_table(program) for size in row["shape"])


def fixed(program: ExportedProgram) -> ExportedProgram:
    """Returns a program with the shapes of its example inputs alone; a static one as it is."""
    if not is_dynamic(program):
        return program
    positional, named = program.example_inputs
    module = program.module(check_guards=False)
    return torch.export.export(module, positional, named, strict=False)


def check_bounds(program: ExportedProgram, edge: ExportedProgram) -> None:
    """Runs an edge program at both ends of its ranges, against the program it was made from.

    ``models.bounds`` has compared that one with the model.

    Args:
        program: the exported program.
        edge: its edge program, whose ranges count.

    Raises:
        ModelError: one of the two does not run, or they differ.
    """
    runs = {
        "the exported program": program.module(check_guards=False),
        "its edge program": edge.module(check_guards=False),
    }
    held = {}
    for one in (program, edge):
        values = {**one.constants, **one.state_dict}
        names = edge.graph_signature.buffers_to_mutate.values()
        held |= {f"{name} {id(one)}": values[name] for name in names}
    inputs = [row["name"] for row in inputs_table(edge)]
    for sizes in _ends(edge):
        shown = shown_shapes(inputs, _shapes(edge, sizes))
        found = compare(runs, _inputs(program, edge, sizes), held, shown)
        for number, (shape, output) in enumerate(zip(_output_shapes(edge), found, strict=True)):
            wanted = _numbers(shape, sizes)
            if wanted is not None and wanted != tuple(output.shape):
                problem = f"output {number} is {list(output.shape)}, and declared as {list(wanted)}"
                raise ModelError(wrong(shown, problem))


def _ends(program: ExportedProgram) -> Iterator[dict[str, int]]:
    """The dynamic sizes of a program's inputs by symbol, all at their lowest, then their highest.

    A range without a limit is tried at its lowest end alone.
    """
    sizes = [size for value in _values(program) for size in value.shape]
    symbols = [size.node.expr.free_symbols for size in sizes if isinstance(size, torch.SymInt)]
    inside = sorted({str(symbol) for found in symbols for symbol in found})
    limits = {str(symbol): limits for symbol, limits in program.range_constraints.items()}
    ranges = {name: limits[name] for name in inside if name in limits}
    yield {name: int(found.lower) for name, found in ranges.items()}
    highest = {name: limit(found.upper) for name, found in ranges.items()}
    if None in highest.values():
        return
    if sum(torch.Size(shape).numel() for shape in _shapes(program, highest)) <= LARGEST:
        yield highest


def _values(program: ExportedProgram) -> list[torch.Tensor]:
    inside = set(program.graph_signature.user_inputs)
    found = [node.meta.get("val") for node in program.graph.nodes if node.name in inside]
    return [value for value in found if isinstance(value, torch.Tensor)]


def _shapes(program: ExportedProgram, sizes: dict[str, int]) -> list[tuple[int, ...]]:
    return [_numbers(value.shape, sizes) or () for value in _values(program)]


def _output_shapes(program: ExportedProgram) -> list[torch.Size]:
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    found = [values.get(name) for name in program.graph_signature.user_outputs]
    return [value.shape for value in found if isinstance(value, torch.Tensor)]


def _numbers(shape: torch.Size, sizes: dict[str, int]) -> tuple[int, ...] | None:
    """A shape with numbers for the dynamic sizes; None if it depends on the values of a tensor."""
    found = []
    for size in shape:
        if isinstance(size, torch.SymInt):
            symbols = size.node.expr.free_symbols
            if any(str(symbol) not in sizes for symbol in symbols):
                return None
            size = int(size.node.expr.subs({symbol: sizes[str(symbol)] for symbol in symbols}))
        found.append(size)
    return tuple(found)


def _inputs(program: ExportedProgram, edge: ExportedProgram, sizes: dict[str, int]) -> Sample:
    """The example inputs in other sizes; zeros if the program has none."""
    examples = leaves(program.example_inputs or ())
    tensors = tuple(x for _, x in examples if isinstance(x, torch.Tensor))
    shapes, values = _shapes(edge, sizes), _values(edge)
    if len(tensors) == len(shapes):
        return resized(tensors, shapes)
    return tuple(torch.zeros(s, dtype=v.dtype) for s, v in zip(shapes, values, strict=True))
