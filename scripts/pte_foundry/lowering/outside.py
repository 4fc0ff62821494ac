"""Operators outside of the Core ML delegate: which ones, and whether a device can run them.

An operator stays outside because a target's ``skip_ops_for_coreml_delegation`` names it, or because
Core ML lacks it. ExecuTorch's runtime then runs it, with far fewer kernels than torch has. So an
operator that was kept whole for Core ML is decomposed if it stays outside and the runtime lacks it,
and a program that still needs a missing kernel is refused: it could not be loaded on a device.

An entry of the skip list names an operator of the edge program (``aten.convolution.default``) or of
the user's torch program (``aten.conv2d.default``, as debug handles and reports have it); then all
that it is decomposed into stays outside. Upper and lower case are the same. An entry that is
neither opens the operators kept whole whose decomposition contains it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import PurePath
from typing import NamedTuple

import torch
from executorch.backends.apple.coreml.partition import CoreMLPartitioner
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule, Node

from pte_foundry.errors import FoundryError
from pte_foundry.findings import Finding, did_you_mean, listed, raise_for
from pte_foundry.formats.pte_file import read_pte
from pte_foundry.models import operators
from pte_foundry.upstream import executorch_partitioner, torch_operators
from pte_foundry.upstream.coremltools_lstm import projects, whole_lstms
from pte_foundry.upstream.executorch_edge_operators import aten, out_variant
from pte_foundry.upstream.executorch_kernels import MAX_RANK, framework
from pte_foundry.upstream.torch_operators import OpOverload


class MissingKernelError(FoundryError):
    """A program calls operators that ExecuTorch's runtime does not have."""


def check_names(skip: Iterable[str], program: ExportedProgram) -> None:
    """Checks that a skip list names operators; a program may lack them, for others have the target.

    Args:
        skip: ``skip_ops_for_coreml_delegation``, as ``namespace.name.overload``.
        program: its operators are suggested.

    Raises:
        ConfigError: no operator has this name.
    """
    path = "partitioner", "skip_ops_for_coreml_delegation"
    used = sorted({str(node.target) for node in program.graph.nodes if node.op == "call_function"})
    raise_for(
        Finding(
            path,
            "torch has no operator of this name, so nothing would stay outside of Core ML",
            f"any operator of torch; this model has {listed(used)}",
            did_you_mean(name, used, "correct the name, or remove it"),
            name,
        )
        for name in skip
        if not torch_operators.exists(name)
    )


def left_out(skip: Iterable[str], debug_handles: Mapping[str, str]) -> Callable[[Node], bool]:
    """Returns whether a node of an edge program is skipped, by its own or its source's name."""
    names = _names(skip)

    def skipped(node: Node) -> bool:
        label = debug_handles.get(str(node.meta.get("debug_handle")), "")
        return (
            bool(names)
            and node.op == "call_function"
            and not names.isdisjoint({_name(node), label.partition(" ")[0].lower()})
        )

    return skipped


def preserved(
    program: ExportedProgram, labels: Mapping[str, str], skip: Iterable[str]
) -> list[OpOverload]:
    """Returns the operators of a functional ATen program to keep whole, sorted by name.

    Args:
        program: its operators are functional; views may be left.
        labels: "operator @ module" by the name of a node of the exported program.
        skip: ``skip_ops_for_coreml_delegation``.
    """
    names = _names(skip)
    with whole_lstms():
        known, _ = CoreMLPartitioner().ops_to_not_decompose(program)
        kept = set(known)
        for node in program.graph.nodes:
            if node.target in kept and not framework(out_variant(node.target)):
                label = labels.get(operators.original(node) or "", "").partition(" ")[0].lower()
                supported = executorch_partitioner.supported(node) and not projects(node)
                if {_name(node), label} & names or not supported:
                    kept.discard(node.target)
    return sorted(kept - _opened(program, names, kept), key=str)


def _opened(program: ExportedProgram, names: set[str], kept: set[OpOverload]) -> set[OpOverload]:
    """The operators whose decomposition contains an entry that names no operator by itself."""
    sources = {node.name: node.target for node in program.graph.nodes if node.target in kept}
    unknown = names - {_name(node) for node in program.graph.nodes}
    if not unknown or not sources:
        return set()
    table = torch.export.default_decompositions()
    found = set()
    for node in program.run_decompositions(table).graph.nodes:
        if node.op == "call_function" and _name(node) in unknown:
            origin = next(iter(node.meta.get("from_node") or ()), None)
            while origin is not None:
                if str(sources.get(origin.name)) == str(origin.target):
                    found.add(sources[origin.name])
                origin = next(iter(origin.from_node or ()), None)
    return found


class Call(NamedTuple):
    """A call of an operator outside of the delegates."""

    label: str
    line: str
    skipped: bool
    kernel: str
    rank: int


class Calls:
    """The calls of a program outside of its delegates, to name those that lack a kernel.

    Args:
        programs: of the methods, with delegates, before their operators are replaced by their out
            variants.
        debug_handles: debug handle to "operator @ module".
        skipped: :func:`left_out`.
    """

    def __init__(
        self,
        programs: Iterable[ExportedProgram],
        debug_handles: Mapping[str, str],
        skipped: Callable[[Node], bool],
    ) -> None:
        self._calls: dict[str, list[Call]] = {}
        self._unwritable: set[str] = set()
        graphs = chain.from_iterable(_graphs(program.graph_module) for program in programs)
        for node in chain.from_iterable(graph.nodes for graph in graphs):
            operator = aten(node)
            if node.op == "call_function" and isinstance(operator, OpOverload):
                label = debug_handles.get(str(node.meta.get("debug_handle")))
                kernel = out_variant(operator)
                call = Call(
                    label or operators.describe(node),
                    _line(node),
                    skipped(node),
                    kernel,
                    _rank(node),
                )
                name = torch_operators.schema(operator).name
                self._calls.setdefault(name, []).append(call)
                if not kernel:
                    self._unwritable.add(name)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Replaces an error while operators without an out variant are written."""
        try:
            yield
        except Exception as error:
            if self._unwritable:
                raise self._missing(self._unwritable) from error
            raise

    def check(self, written: bytes) -> None:
        """Refuses a program that needs a kernel the runtime lacks.

        Args:
            written: the program, as upstream writes it.

        Raises:
            MissingKernelError: names each operator, its modules, and the way out.
        """
        plans = read_pte(written).program.execution_plan
        called = {".".join(filter(None, (o.name, o.overload))) for p in plans for o in p.operators}
        missing = {kernel for kernel in called if not framework(kernel)}
        missing |= {
            call.kernel
            for calls in self._calls.values()
            for call in calls
            if call.rank > MAX_RANK.get(call.kernel, call.rank)
        }
        if missing:
            raise self._missing(missing)

    def _missing(self, kernels: Iterable[str]) -> MissingKernelError:
        return MissingKernelError("; ".join(map(self._finding, sorted(kernels))))

    def _finding(self, kernel: str) -> str:
        calls = self._calls.get(kernel.partition(".")[0], [])
        labels = ", ".join(dict.fromkeys(call.label for call in calls))
        line = next((f" at {call.line}" for call in calls if call.line), "")
        if any(call.skipped for call in calls):
            fix = "remove it from partitioner.skip_ops_for_coreml_delegation"
        else:
            fix = "use operators in the model that Core ML or the runtime has"
        rank = f" of rank {MAX_RANK[kernel] + 1}" if kernel in MAX_RANK else ""
        return (
            f"{kernel}{f' (from {labels}{line})' if labels else ''} stays outside of the Core ML "
            f"delegate, and ExecuTorch's runtime has no kernel{rank} for it, so the program cannot "
            f"run on a device: {fix}"
        )


def _rank(node: Node) -> int:
    value = node.args[0].meta.get("val") if node.args and isinstance(node.args[0], Node) else None
    return value.dim() if isinstance(value, torch.Tensor) else 0


def _line(node: Node) -> str:
    """The line outside of torch that a node comes from, ``file:line``; empty if unknown."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    users = [(path, line) for path, line in frames if "torch" not in PurePath(path).parts]
    return f"{PurePath(users[-1][0]).name}:{users[-1][1]}" if users else ""


def _graphs(module: GraphModule) -> Iterator[Graph]:
    return (m.graph for m in module.modules() if isinstance(m, GraphModule))


def _names(skip: Iterable[str]) -> set[str]:
    return {name.lower() for name in skip}


def _name(node: Node) -> str:
    return str(aten(node)).lower()
