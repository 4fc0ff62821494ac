"""ExecuTorch edge programs: the part of lowering that does not depend on the target, on disk.

Making the edge program is more than half of a lowering (executorch 1.5.1): operators that Core ML
lacks are decomposed, the others are preserved. Which ones Core ML has depends neither on the OS nor
on the precision, so all targets share the result. ``to_edge_transform_and_lower`` makes it and
lowers it in one call. Here :func:`make` and ``pte_foundry.lowering.coreml.lower`` are its halves;
``tests/unit/lowering/test_lowering.py`` tests that together they give the same bytes.

An edge program is a torch program with wrapped operators, which torch's file format does not have.
So :func:`save` unwraps them, and :func:`load` wraps them again by upstream's own rule.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from executorch.exir import EdgeProgramManager
from executorch.exir.verification.verifier import EXIREdgeDialectVerifier
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule

from pte_foundry.errors import FoundryError
from pte_foundry.lowering import outside, rewrites
from pte_foundry.lowering.constants import beyond_fp16
from pte_foundry.lowering.explain import Operators, explained
from pte_foundry.lowering.shape_bounds import check_bounds, is_dynamic
from pte_foundry.lowering.states import separate_outputs
from pte_foundry.models import operators, programs
from pte_foundry.models.methods import FORWARD
from pte_foundry.upstream import executorch_edge_operators, torch_operators, torch_size_ranges
from pte_foundry.upstream.executorch_edge_config import preserving
from pte_foundry.upstream.executorch_to_edge import to_edge


class EdgeError(FoundryError):
    """Upstream could not make an edge program of a torch program."""


@dataclass(frozen=True)
class EdgeProgram:
    """A program in the edge dialect.

    Attributes:
        program: its operators are in the edge dialect.
        preserved_ops: operators that were not decomposed, because Core ML has them.
        debug_handles: by debug handle, the operator of the torch program: ``operator @ module``
            (``pte_foundry.models.operators``).
        source: the torch program and the operators to skip that it was made from; None if loaded.
        after: the highest debug handle of other methods, below those of this one.
    """

    program: ExportedProgram
    preserved_ops: tuple[str, ...]
    debug_handles: dict[str, str]
    source: tuple[ExportedProgram, list[str]] | None = None
    after: int = 0


def manager(
    edges: Mapping[str, EdgeProgram], constants: Mapping[str, Any] | None = None
) -> EdgeProgramManager:
    """Returns upstream's object that lowers the programs of methods.

    Args:
        edges: by method.
        constants: constant methods (``pte_foundry.models.constants``).
    """
    names = dict.fromkeys(name for edge in edges.values() for name in edge.preserved_ops)
    kept = [torch_operators.operator(name) for name in sorted(names)]
    held = {method: edge.program for method, edge in edges.items()}
    return EdgeProgramManager(
        held, dict(constants or {}), preserving(kept), kept, preserve_ops=kept
    )


def make(program: ExportedProgram, skip: list[str]) -> EdgeProgram:
    """Returns the edge program of a torch program.

    Args:
        program: the result of ``torch.export``, quantized or not.
        skip: operators to keep out of Core ML (``skip_ops_for_coreml_delegation``).

    Raises:
        ConfigError: an operator to skip does not exist.
        EdgeError: upstream failed; the message has the operator, the cause and the fix.
    """
    outside.check_names(skip, program)
    labels = operators.labels(program.graph)
    rewritten = rewrites.without(skip)
    try:
        # Views are never preserved, so they can be decomposed before it is known what is.
        table = torch.export.default_decompositions()
        views = {op: table[op] for op in _targets(program) if op in table and op.is_view}
        functional = program.run_decompositions(views | rewritten)
        separate_outputs(functional)
        kept = outside.preserved(functional, labels, skip)
        edge = to_edge(functional, kept, rewritten)
        torch_size_ranges.restore(edge, program)
    except FoundryError:
        raise
    except Exception as error:
        task = "turn {} into the edge dialect"
        raise EdgeError(explained(error, task, Operators([], {}))) from error
    handles = {}
    for node in chain.from_iterable(graph.nodes for graph in _graphs(edge.graph_module)):
        handle = node.meta.get("debug_handle")
        if node.op == "call_function" and isinstance(handle, int):
            label = labels.get(operators.original(node) or "")
            handles[str(handle)] = label or operators.describe(node)
    return EdgeProgram(edge, tuple(map(str, kept)), handles, (program, skip))


def _targets(program: ExportedProgram) -> set[Any]:
    return {node.target for node in program.graph.nodes if node.op == "call_function"}


def make_all(methods: Mapping[str, ExportedProgram], skip: list[str]) -> dict[str, EdgeProgram]:
    """Returns the edge programs of a program's methods, whose debug handles all differ.

    Args:
        methods: the torch program of each method.
        skip: see :func:`make`.

    Raises:
        ModelError: a program is not right at an end of the ranges of its dynamic sizes.
    """
    edges: dict[str, EdgeProgram] = {}
    for method, program in methods.items():
        handles = [int(h) for edge in edges.values() for h in edge.debug_handles]
        made = make(program, skip)
        if is_dynamic(made.program):
            check_bounds(program, made.program)
        edges[method] = _numbered(made, max(handles, default=0))
    return edges


def _numbered(edge: EdgeProgram, after: int) -> EdgeProgram:
    """Returns the program with debug handles that follow on another program's."""
    if not after:
        return edge
    for node in chain.from_iterable(graph.nodes for graph in _graphs(edge.program.graph_module)):
        if isinstance(handle := node.meta.get("debug_handle"), int) and handle:  # 0 is unknown
            node.meta["debug_handle"] = handle + after
    handles = {str(int(handle) + after): label for handle, label in edge.debug_handles.items()}
    return replace(edge, debug_handles=handles, after=after)


def save(edge: EdgeProgram, path: Path) -> dict:
    """Writes the program, which cannot be used afterwards; returns its metadata for :func:`load`.

    Returns:
        JSON: ``debug_handles`` (``EdgeProgram.debug_handles``), ``beyond_fp16``
        (:func:`pte_foundry.lowering.constants.beyond_fp16`), and either ``preserved_ops`` and
        ``handles_of_nodes`` (debug handle by name of node) or, with control flow, ``skip``.
    """
    return save_all({FORWARD: edge}, path)


def save_all(edges: Mapping[str, EdgeProgram], path: Path) -> dict:
    """Writes the programs of methods like :func:`save`; several have their metadata by method."""
    written = {method: _writable(edge) for method, edge in edges.items()}
    programs.save_all({method: program for method, (program, _) in written.items()}, path)
    if written.keys() == {FORWARD}:
        return written[FORWARD][1]
    return {"methods": {method: metadata for method, (_, metadata) in written.items()}}


def _writable(edge: EdgeProgram) -> tuple[ExportedProgram, dict]:
    """The program as torch's file format supports it, and its metadata.

    Nested graphs hold constants of their own, which the format does not support. So of a program
    with control flow the torch program is written, and ``load`` makes the edge program.
    """
    constants = beyond_fp16(edge.program)
    after = {"after": edge.after} if edge.after else {}
    if len(list(_graphs(edge.program.graph_module))) > 1:
        program, skip = edge.source
        return program, {
            "skip": skip,
            "debug_handles": edge.debug_handles,
            "beyond_fp16": constants,
            **after,
        }
    handles = {}
    for node in edge.program.graph.nodes:
        executorch_edge_operators.unwrap(node)
        if "debug_handle" in node.meta:
            handles[node.name] = node.meta["debug_handle"]
    return _checked_by(edge.program, None), {
        "preserved_ops": list(edge.preserved_ops),
        "debug_handles": edge.debug_handles,
        "handles_of_nodes": handles,
        "beyond_fp16": constants,
    }


def load(path: Path, metadata: dict) -> EdgeProgram:
    """Reads the program that :func:`save` wrote, with the metadata that it returned.

    Raises:
        DamagedError: the file is not what ``save`` wrote.
    """
    return _read(programs.load(path), metadata)


def load_all(path: Path, metadata: dict) -> dict[str, EdgeProgram]:
    """Reads the programs that :func:`save_all` wrote, by method. Raises DamagedError."""
    described = metadata.get("methods", {FORWARD: metadata})
    saved = programs.load_all(path)
    return {method: _read(program, described[method]) for method, program in saved.items()}


def merged(metadata: dict) -> dict:
    """Returns ``debug_handles`` and ``beyond_fp16`` of all methods that :func:`save_all` wrote."""
    parts = list(metadata.get("methods", {FORWARD: metadata}).values())
    names = ("debug_handles", "beyond_fp16")
    return {name: {k: v for part in parts for k, v in part[name].items()} for name in names}


def _read(saved: ExportedProgram, metadata: dict) -> EdgeProgram:
    if "skip" in metadata:
        return _numbered(make(saved, metadata["skip"]), metadata.get("after", 0))
    handles = metadata["handles_of_nodes"]
    for node in list(saved.graph.nodes):
        if node.target is operator.getitem and not node.users:
            # When torch reads a graph it adds a getitem for every output of an operator.
            saved.graph.erase_node(node)
            continue
        executorch_edge_operators.wrap(node)
        if node.name in handles:
            node.meta["debug_handle"] = handles[node.name]
    kept = [torch_operators.operator(name) for name in metadata["preserved_ops"]]
    verifier = EXIREdgeDialectVerifier(
        edge_compile_config=preserving(kept), class_only=True, preserve_ops=kept
    )
    program = _checked_by(saved, [verifier])
    return EdgeProgram(program, tuple(metadata["preserved_ops"]), metadata["debug_handles"])


def _checked_by(program: ExportedProgram, verifiers: list[Any] | None) -> ExportedProgram:
    """Returns the program in another dialect: with verifiers of its operators; None: torch's."""
    return ExportedProgram(
        root=program.graph_module,
        graph=program.graph,
        graph_signature=program.graph_signature,
        state_dict=program.state_dict,
        range_constraints=program.range_constraints,
        module_call_graph=program.module_call_graph,
        example_inputs=program.example_inputs,
        constants=program.constants,
        verifiers=verifiers,
    )


def _graphs(module: GraphModule) -> Iterator[Graph]:
    """Yields a program's graph and the graphs nested in it."""
    return (m.graph for m in module.modules() if isinstance(m, GraphModule))
