"""An exported program (``torch.export``) as a model: no Python code of its author runs.

weights  the program, .pt2
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from pte_foundry.errors import ModelError
from pte_foundry.models import programs
from pte_foundry.models.inputs import inputs_table
from pte_foundry.models.layout import Arguments, InputLayout


def build(weights: Path) -> nn.Module:
    """Returns the program as a module."""
    module = Program(programs.read(weights))
    for part in module.modules():
        part.training = False  # its graph is what it is, and eval() is refused
    return module


class Program(nn.Module):
    """Calls a program; ``forward`` has the names of its parameters."""

    def __init__(self, program: ExportedProgram) -> None:
        super().__init__()
        self.program = program.module(check_guards=False)
        names = program.module_call_graph[0].signature.forward_arg_names or []
        self.forward = _with_parameters(self.program, names)


def _with_parameters(module: nn.Module, names: list[str]) -> Callable[..., Any]:
    def forward(*arguments: Any, **keywords: Any) -> Any:
        return module(*arguments, **keywords)

    if names:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        forward.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in names])
    return forward


def example_inputs(weights: Path) -> Any:
    """Returns the inputs that the program was exported with."""
    program = programs.read(weights)
    if program.example_inputs is None:
        return _made_up(program)
    return Arguments(*program.example_inputs)


def dynamic_shapes(weights: Path) -> Any:
    """Returns the sizes that are dynamic in the program, by the names of its inputs."""
    program = programs.read(weights)
    inside = set(program.graph_signature.user_inputs)
    values = [node.meta.get("val") for node in program.graph.nodes if node.name in inside]
    rows = inputs_table(program)
    sizes = [value.shape for value in values if isinstance(value, torch.Tensor)]
    specs = [
        {
            axis: _dimension(str(size), *limits)
            for axis, (size, limits) in enumerate(zip(shape, row["shape"], strict=True))
            if isinstance(limits, list)
        }
        for shape, row in zip(sizes, rows, strict=True)
    ]
    names = InputLayout(example_inputs(weights)).names(Program(program))
    return dict(zip(names, specs, strict=True)) if any(specs) else None


def _dimension(symbol: str, low: int | None, high: int | None) -> Any:
    """A dynamic size; equal symbols are equal sizes, an expression is what follows from others."""
    return Dim(symbol, min=low, max=high) if symbol.isidentifier() else Dim.AUTO


def _made_up(program: ExportedProgram) -> tuple[torch.Tensor, ...]:
    rows = inputs_table(program)
    if any(isinstance(size, list) for row in rows for size in row["shape"]):
        raise ModelError("found no example inputs in the program; export it again with them")
    return tuple(torch.zeros(row["shape"], dtype=getattr(torch, row["dtype"])) for row in rows)
