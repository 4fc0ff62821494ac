"""An exported program (``torch.export``) as a model: no Python code of its author runs.

weights  the program, .pt2
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from pte_foundry.errors import ModelError
from pte_foundry.models import programs
from pte_foundry.models.inputs import inputs_table


def build(weights: Path) -> nn.Module:
    """Returns the program as a module."""
    module = programs.read(weights).module(check_guards=False)
    for part in module.modules():
        part.training = False  # its graph is what it is, and eval() is refused
    return module


def example_inputs(weights: Path) -> Any:
    """Returns the inputs that the program was exported with."""
    program = programs.read(weights)
    if program.example_inputs is None:
        return _made_up(program)
    arguments, keywords = program.example_inputs
    if not keywords:
        return tuple(arguments)
    names = program.module_call_graph[0].signature.forward_arg_names or []
    return {**dict(zip(names, arguments, strict=False)), **keywords}


def dynamic_shapes(weights: Path) -> Any:
    """Returns the sizes that are dynamic in the program, input by input."""
    program = programs.read(weights)
    found = [
        {axis: Dim.AUTO for axis, size in enumerate(row["shape"]) if isinstance(size, list)}
        for row in inputs_table(program)
    ]
    return tuple(found) if any(found) else None


def _made_up(program: ExportedProgram) -> tuple[torch.Tensor, ...]:
    rows = inputs_table(program)
    if any(isinstance(size, list) for row in rows for size in row["shape"]):
        raise ModelError("found no example inputs in the program; export it again with them")
    return tuple(torch.zeros(row["shape"], dtype=getattr(torch, row["dtype"])) for row in rows)
