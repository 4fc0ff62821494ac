"""Graphs, annotations and constants as plain values, to test two programs for equality.

Names of nodes are compared if they come from the exported program, but not the numbers in names of
nodes that torchao inserts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg
from torchao.quantization.pt2e.quantizer import (
    QuantizationSpec,
    SharedQuantizationSpec,
)
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

from pte_foundry.upstream.torchao_annotations import is_annotated

if TYPE_CHECKING:
    from collections.abc import Mapping


def annotations(module: GraphModule) -> list[tuple[Any, ...]]:
    """Returns every node of an annotated or prepared module: op, name, target and annotation."""
    return [
        (node.op, node.name, str(node.target), _annotation(node.meta.get(Q_ANNOTATION_KEY)))
        for node in module.graph.nodes
    ]


def _annotation(note: Any) -> tuple[Any, ...] | None:
    if note is None:
        return None
    inputs = [(source.name, _specification(spec)) for source, spec in note.input_qspec_map.items()]
    return (
        is_annotated(note),
        note.allow_implicit_sharing,
        inputs,
        _specification(note.output_qspec),
    )


def _specification(spec: Any) -> Any:
    """A quantization specification as comparable values; its observer is a partial function."""
    if spec is None:
        return None
    if isinstance(spec, SharedQuantizationSpec):
        return "shared", str(spec.edge_or_node)
    if type(spec) is not QuantizationSpec:
        raise TypeError(f"{spec!r} is not a specification of CoreMLQuantizer")
    observer = spec.observer_or_fake_quant_ctr.p
    options = sorted((k, str(getattr(v, "p", v))) for k, v in observer.keywords.items())
    limits = (spec.quant_min, spec.quant_max, spec.ch_axis, spec.is_dynamic)
    return observer.func.__name__, options, spec.dtype, spec.qscheme, limits


def observers(prepared: GraphModule) -> list[tuple[Any, ...]]:
    """Returns every node of a prepared module: op, target or observer, and arguments.

    An observer is its settings and a number, which is equal for uses of the same object.
    """
    modules = dict(prepared.named_modules(remove_duplicate=False))
    place = {node: number for number, node in enumerate(prepared.graph.nodes)}
    numbers: dict[int, int] = {}

    def what(node: Node) -> Any:
        if node.op != "call_module":
            return str(node.target)
        observer = modules[node.target]
        return numbers.setdefault(id(observer), len(numbers)), str(observer)

    return [
        (node.op, what(node), map_arg((node.args, node.kwargs), place.__getitem__))
        for node in prepared.graph.nodes
    ]


def calls(program: ExportedProgram) -> list[tuple[Any, ...]]:
    """Returns every node of a program with its arguments, in which nodes are numbers.

    Parameters and buffers are compared by their place in the signature, not by name.
    """
    place = {node: number for number, node in enumerate(program.graph.nodes)}
    return [
        (
            node.op,
            str(node.target) if node.op == "call_function" else "",
            map_arg((node.args, node.kwargs), place.__getitem__),
        )
        for node in program.graph.nodes
    ]


def constants(program: ExportedProgram) -> list[tuple[Any, ...]]:
    """Returns kind, dtype, shape and bytes of all parameters, buffers and constants, in order."""
    signature = program.graph_signature
    held: Mapping[str, Any] = {**program.constants, **program.state_dict}
    found = []
    for spec in signature.input_specs:
        if spec.target is not None:
            value = held[spec.target].detach().contiguous()
            content = value.reshape(-1).view(torch.uint8).numpy().tobytes()
            found.append((spec.kind.name, value.dtype, tuple(value.shape), content))
    return found
