"""ExecuTorch's edge programs: what is lowered, as far as it is the same for all targets, on disk.

Making the edge program is more than half of a lowering (executorch 1.5.1): operators that Core ML
does not know are decomposed, the others are kept whole. That asks Core ML which operators it knows,
but neither an OS nor a precision, so all targets share the result. ``to_edge_transform_and_lower``
makes it and lowers it in one call; here the two halves are ``make`` and
``pte_foundry.lowering.coreml.lower``, and ``tests/unit/lowering/test_lowering.py`` proves that
together they give the same bytes.

An edge program is a torch program whose operators are wrapped. torch's format knows nothing of the
wrappers, so ``save`` unwraps and ``load`` wraps anew, by the rule that wraps them at first.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from executorch.backends.apple.coreml.partition import CoreMLPartitioner
from executorch.exir import EdgeProgramManager
from executorch.exir.verification.verifier import EXIREdgeDialectVerifier
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule

from pte_foundry.errors import FoundryError
from pte_foundry.models import operators, programs
from pte_foundry.upstream import executorch_edge_operators, torch_operators
from pte_foundry.upstream.executorch_edge_config import preserving
from pte_foundry.upstream.executorch_to_edge import to_edge


class EdgeError(FoundryError):
    """Upstream could not make an edge program of a torch program."""


@dataclass(frozen=True)
class EdgeProgram:
    """A program in the edge dialect.

    Attributes:
        program: decomposed as far as Core ML wants it.
        whole: operators that were kept from being decomposed, for Core ML's sake.
        sources: which operator of the torch program each debug handle stands for.
        origin: what it was just made from: torch program and operators that Core ML must not have.
    """

    program: ExportedProgram
    whole: tuple[str, ...]
    sources: dict[str, str]
    origin: tuple[ExportedProgram, list[str]] | None = None

    def manager(self) -> EdgeProgramManager:
        """What lowers it."""
        kept = [torch_operators.operator(name) for name in self.whole]
        return EdgeProgramManager(self.program, None, preserving(kept), kept, preserve_ops=kept)


def make(program: ExportedProgram, skip: list[str]) -> EdgeProgram:
    """The edge program of a torch program.

    Args:
        program: what ``torch.export`` gave, quantized or not.
        skip: operators that are not for Core ML (``skip_ops_for_coreml_delegation``).

    Raises:
        EdgeError: with upstream's reason.
    """
    labels = operators.labels(program.graph)
    try:
        # Views are never kept whole, so they can be decomposed before it is known what is.
        table = torch.export.default_decompositions()
        views = {op: table[op] for op in _targets(program) if op in table and op.is_view}
        functional = program.run_decompositions(views)
        partitioner = CoreMLPartitioner(skip_ops_for_coreml_delegation=skip)
        known, _ = partitioner.ops_to_not_decompose(functional)
        kept = sorted(set(known), key=str)
        edge = to_edge(functional, kept)
    except Exception as error:
        raise EdgeError(
            f"upstream cannot make an edge program of this program: {type(error).__name__}: {error}"
        ) from error
    sources = {}
    for node in chain.from_iterable(graph.nodes for graph in _graphs(edge.graph_module)):
        handle = node.meta.get("debug_handle")
        if node.op == "call_function" and isinstance(handle, int):
            label = labels.get(operators.original(node) or "")
            sources[str(handle)] = label or operators.describe(node)
    return EdgeProgram(edge, tuple(map(str, kept)), sources, (program, skip))


def _targets(program: ExportedProgram) -> set[Any]:
    return {node.target for node in program.graph.nodes if node.op == "call_function"}


def save(edge: EdgeProgram, path: Path) -> dict:
    """Writes the program; returns what else :func:`load` needs, as plain data. Uses it up.

    Graphs inside of a graph hold constants of their own, which torch's format has no place for: of
    a program with control flow the torch program is written, and ``load`` makes the rest anew.
    """
    if len(list(_graphs(edge.program.graph_module))) > 1:
        program, skip = edge.origin
        programs.save(program, path)
        return {"skip": skip, "operators": edge.sources}
    handles = {}
    for node in edge.program.graph.nodes:
        executorch_edge_operators.unwrap(node)
        if "debug_handle" in node.meta:
            handles[node.name] = node.meta["debug_handle"]
    programs.save(_checked_by(edge.program, None), path)
    return {"whole": list(edge.whole), "operators": edge.sources, "handles": handles}


def load(path: Path, about: dict) -> EdgeProgram:
    """Reads what :func:`save` wrote, given what it returned. Raises DamagedError."""
    saved = programs.load(path)
    if "skip" in about:
        return make(saved, about["skip"])
    for node in list(saved.graph.nodes):
        if node.target is operator.getitem and not node.users:
            # torch takes all of an operator's outputs out when it reads a graph.
            saved.graph.erase_node(node)
            continue
        executorch_edge_operators.wrap(node)
        if node.name in about["handles"]:
            node.meta["debug_handle"] = about["handles"][node.name]
    kept = [torch_operators.operator(name) for name in about["whole"]]
    verifier = EXIREdgeDialectVerifier(
        edge_compile_config=preserving(kept), class_only=True, preserve_ops=kept
    )
    program = _checked_by(saved, [verifier])
    return EdgeProgram(program, tuple(about["whole"]), about["operators"])


def _checked_by(program: ExportedProgram, verifiers: list[Any] | None) -> ExportedProgram:
    """The program in another dialect, which says what operators there may be; None is torch's."""
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
    """A program's graph and the graphs in it."""
    return (m.graph for m in module.modules() if isinstance(m, GraphModule))
