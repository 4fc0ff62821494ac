"""Refuses exported programs that cannot become a Core ML program, before anything is written.

What depends on a target, such as a skip list, is not known here and is left to the lowering.
"""

from __future__ import annotations

import keyword
import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Graph, GraphModule, Node

from pte_foundry.errors import ModelError
from pte_foundry.models import operators
from pte_foundry.models.user_code import source_line
from pte_foundry.upstream.torch_operators import OpOverload, schema

HIGHEST_RANK = 5  # of a Core ML tensor: coremltools 9.0, mil/program.py, _check_invalid_tensor_rank

CONTROL_FLOW = {
    "cond": "compute both branches and choose with torch.where",
    "while_loop": "write a Python loop with a fixed number of rounds; torch.export unrolls it",
    "map_impl": "use batched operators or torch.vmap, or a Python loop, which torch.export unrolls",
    "scan": "write a Python loop, which torch.export unrolls, or use torch.cumsum or torch.cumprod",
    "associative_scan": "use torch.cumsum or torch.cumprod, or a Python loop",
}
"""Operators with nested graphs, and what to write instead. executorch 1.5.1 lowers none of them to
Core ML: its partitioner takes the attributes that hold the graphs, and then cannot find them."""

# Core ML's only operators on complex numbers (coremltools 9.0, mil/ops/defs/complex_dialect_ops.py)
# that its frontend for exported programs can connect: between these a complex value may flow.
_TRANSFORMS = frozenset(
    f"aten.fft_{kind}.default"
    for kind in ("fft", "ifft", "fftn", "ifftn", "rfft", "irfft", "rfftn", "irfftn")
)
_COMPLEX_FROM = _TRANSFORMS | {"aten.complex.default", "aten.stft.default", "aten.stft.center"}
_COMPLEX_TO = _TRANSFORMS | {"aten.abs.default"}
_TRANSFORM_ARGUMENTS = 4  # coremltools converts a transform only with all of its arguments


def check_program(program: ExportedProgram) -> None:
    """Checks an exported program for what no target can lower.

    Raises:
        ModelError: the problems, each with the operator, the source line and the fix.
    """
    problems = [
        *_wrong_names(program),
        *_wrong_inputs(program),
        *_control_flow(program),
        *_complex_values(program),
        *_changed_in_place(program),
    ]
    if problems:
        raise ModelError("\n  ".join(problems))


def _place(node: Node) -> str:
    """A node's operator, module and source line, as far as they are known."""
    return operators.describe(node) + _line(node)


def _line(node: Node) -> str:
    """The source line of a node, or else that of what it reads, in parentheses."""
    found = map(source_line, [node.meta, *(read.meta for read in node.all_input_nodes)])
    return next((f" ({line})" for line in found if line), "")


def _wrong_names(program: ExportedProgram) -> Iterator[str]:
    for name in [*program.state_dict, *program.constants]:
        for part in filter(keyword.iskeyword, name.split(".")):
            yield (
                f"the module or tensor {name!r} contains the Python keyword {part!r}, and torch "
                f"cannot run programs with such names; rename it, e.g. to {part + '_'!r}"
            )


def _wrong_inputs(program: ExportedProgram) -> Iterator[str]:
    names = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op != "placeholder" or node.name not in names:
            continue
        if isinstance(value, torch.Tensor) and value.dim() > HIGHEST_RANK:
            yield (
                f"the input {node.name} has {value.dim()} dimensions, and a Core ML tensor has at "
                f"most {HIGHEST_RANK}; merge dimensions in the samples, and reshape in forward()"
            )


def _control_flow(program: ExportedProgram) -> Iterator[str]:
    for graph in _graphs(program):
        for node in graph.nodes:
            if node.op == "call_function" and _kind(node) in CONTROL_FLOW:
                name = _kind(node).removesuffix("_impl")
                yield (
                    f"torch.{name}{_line(node)} does not go into Core ML; "
                    f"{CONTROL_FLOW[_kind(node)]}"
                )


def _kind(node: Node) -> str:
    """The name of a higher-order operator; others have an empty one."""
    higher_order = getattr(node.target, "namespace", "") == "higher_order"
    return node.target.name() if higher_order else ""


def _complex_values(program: ExportedProgram) -> Iterator[str]:
    """Finds the first complex value that Core ML cannot hold."""
    for graph in _graphs(program):
        for node in graph.nodes:
            if not _is_complex(node.meta.get("val")) or node.op not in (
                "call_function",
                "get_attr",
            ):
                continue
            given, users = str(node.target), [str(user.target) for user in node.users]
            complete = given not in _TRANSFORMS or len(node.args) == _TRANSFORM_ARGUMENTS
            if given in _COMPLEX_FROM and complete and set(users) <= _COMPLEX_TO:
                continue
            yield (
                f"{_place(node)} gives complex numbers. Core ML has them only inside of a Fourier "
                "transform whose magnitude is taken at once (`torch.fft.fft(x, n, dim, "
                "'ortho').abs()`, with all four arguments); keep real and imaginary parts in two "
                "real tensors (a transform is a matmul with tables of cos and sin)"
            )
            return


def _is_complex(value: Any) -> bool:
    values = value if isinstance(value, tuple | list) else [value]
    return any(isinstance(one, torch.Tensor) and one.is_complex() for one in values)


def _changed_in_place(program: ExportedProgram) -> Iterator[str]:
    """Finds inputs and parameters that forward() writes to; buffers become states."""
    found: dict[str, Node] = {}
    for name, node in _writes(program):
        found.setdefault(name, node)  # the first one
    if not found:
        return
    # What may be a view need not be one: x.float() is a copy if x is not fp32. Only making the
    # program functional tells, and that traces it again.
    signature = program.run_decompositions({}).graph_signature
    for name in signature.user_inputs_to_mutate.values():
        yield (
            f"forward() changes its input {name} in place{_at(found.get(name))}; work on a copy: "
            f"{name} = {name}.clone()"
        )
    for name in signature.parameters_to_mutate.values():
        yield (
            f"forward() changes the parameter {name} in place{_at(found.get(name))}; make what "
            "changes a buffer (register_buffer), which becomes a state"
        )


def _at(node: Node | None) -> str:
    return f" by {node.target}{_line(node)}" if node is not None else ""


def _writes(program: ExportedProgram) -> Iterator[tuple[str, Node]]:
    """Yields inputs and parameters that may be written to, by name, with the operator."""
    roots: dict[Node, set[str]] = {}
    kinds = InputKind.USER_INPUT, InputKind.PARAMETER
    inputs = {
        spec.arg.name: spec.target or spec.arg.name
        for spec in program.graph_signature.input_specs
        if spec.kind in kinds
    }
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in inputs:
            roots[node] = {inputs[node.name]}
        elif node.target is operator.getitem and node.args[0] in roots:
            roots[node] = roots[node.args[0]]
        elif isinstance(node.target, OpOverload):
            for argument, value in _arguments(node):
                if argument.alias_info is None or value not in roots:
                    continue
                if argument.alias_info.is_write:
                    yield from ((name, node) for name in roots[value])
                roots[node] = roots.get(node, set()) | roots[value]


def _arguments(node: Node) -> Iterator[tuple[Any, Any]]:
    """Yields the arguments of an operator's schema with the nodes that are given for them."""
    for position, argument in enumerate(schema(node.target).arguments):
        given = node.args[position] if position < len(node.args) else None
        value = node.kwargs.get(argument.name, given)
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, Node):
                yield argument, one


def _graphs(program: ExportedProgram) -> Iterator[Graph]:
    parts = program.graph_module.modules()
    return (part.graph for part in parts if isinstance(part, GraphModule))
