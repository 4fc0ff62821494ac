"""Explains errors of upstream: the operator, its module and source line, the cause and the fix."""

from __future__ import annotations

import operator
import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from pte_foundry.lowering.causes import SHARING, Cause, cause_of
from pte_foundry.models import operators
from pte_foundry.models.user_code import shown_path, source_line
from pte_foundry.upstream.coremltools_failing_operator import (
    FailingOperator,
    failing_operator,
    failing_pass,
)
from pte_foundry.upstream.executorch_edge_operators import aten, out_variant
from pte_foundry.upstream.executorch_kernels import framework
from pte_foundry.upstream.torch_operators import OpOverload

_LONGEST = 600  # characters of an upstream message
# torch and executorch append programs and advice on their own debugging to the reason.
_APPENDED = re.compile(
    r"\s*(While executing %|Original traceback:|The toplevel program:|Use tlparse|class GraphModule"
    r"|For more information, run with).*",
    re.DOTALL,
)


@dataclass(frozen=True)
class _Operator:
    """An operator of the program: ``label`` names it and its module, ``line`` its source."""

    label: str
    line: str
    target: OpOverload | None

    def __str__(self) -> str:
        return self.label + (f" ({self.line})" if self.line else "")


class Operators:
    """The operators of a program by node name and debug handle, kept while upstream consumes it.

    Args:
        programs: edge programs of the methods; none before there is one.
        debug_handles: debug handle to "operator @ module".
    """

    def __init__(self, programs: Sequence[ExportedProgram], debug_handles: Mapping[str, str]):
        self._labels = debug_handles
        self._by_name: dict[str, _Operator] = {}
        self._by_handle: dict[int, _Operator] = {}
        modules = chain.from_iterable(program.graph_module.modules() for program in programs)
        graphs = (module.graph for module in modules if isinstance(module, GraphModule))
        for node in chain.from_iterable(graph.nodes for graph in graphs):
            if node.op == "call_function":
                found = self._operator(node)
                self._by_name.setdefault(node.name, found)
                self._by_handle.setdefault(node.meta.get("debug_handle"), found)
        self.sharing = "; ".join(dict.fromkeys(filter(None, map(self._sharing, programs))))

    def _sharing(self, program: ExportedProgram) -> str:
        """The operators that read a weight which several operators read."""
        weights = program.graph_signature.inputs_to_parameters
        readers = [node.users for node in program.graph.nodes if node.name in weights]
        labels = [[self._operator(user).label for user in users] for users in readers]
        return "; ".join(" and ".join(names) for names in labels if len(names) > 1)

    def _operator(self, node: Node) -> _Operator:
        """An operator by its label: ``aten.mul.Tensor of aten.group_norm.default @ norm``."""
        while node.target is operator.getitem:  # one of several results
            node = node.args[0]
        target = aten(node)
        label = self._labels.get(str(node.meta.get("debug_handle")))
        own = str(target) if isinstance(target, OpOverload) else operators.describe(node)
        if label is None:
            label = operators.describe(node)
        elif label.partition(" ")[0] != own.replace("_copy.", ".") and own != label.split(" ")[0]:
            label = f"{own} of {label}"
        known = target if isinstance(target, OpOverload) else None
        return _Operator(label, source_line(node.meta), known)

    def of(self, failing: FailingOperator | None) -> _Operator | None:
        """Returns the operator that upstream failed at, as far as it can be told."""
        if failing is None:
            return None
        if failing.name in self._by_name:
            return self._by_name[failing.name]
        if failing.debug_handle in self._by_handle:
            return self._by_handle[failing.debug_handle]
        if failing.node is not None:
            return self._operator(failing.node)
        line = source_line(failing.meta)
        return _Operator(f"the operator {failing.name}", line, None) if line else None


def explained(
    error: Exception, task: str, known: Operators, skipped: list[str] | None = None
) -> str:
    """Returns the message for an error of upstream; its first line stands alone.

    Args:
        error: with its traceback.
        task: what could not be done, with ``{}`` for the operator: ``lower {} to Core ML``.
        known: the operators of the program.
        skipped: the target's skip list; None if it cannot have one.
    """
    failing = known.of(failing_operator(error))
    said = what_it_said(error)
    cause = cause_of(failing.label if failing else "", said)
    doing = task.format(failing or "this program")
    in_pass = f", in the pass {found}" if (found := failing_pass(error)) else ""
    lines = [f"upstream cannot {doing}: {cause.problem if cause else said + in_pass}"]
    if cause:
        lines.append(f"fix: {cause.fix}".replace(SHARING, known.sharing or "the modules"))
    if failing and failing.target is not None and skipped is not None:
        lines += _way_around(failing.target, cause, skipped)
    if cause:
        lines.append(f"upstream said: {said}{in_pass}")
    return "\n  ".join(lines)


def _way_around(target: OpOverload, cause: Cause | None, skipped: list[str]) -> list[str]:
    """How to run an operator outside of Core ML, if ExecuTorch's runtime can."""
    name = str(target)
    if (cause and not cause.skippable) or name.lower() in [entry.lower() for entry in skipped]:
        return []
    entries = ", ".join([*skipped, name])
    write = f"write in the target: partitioner: {{skip_ops_for_coreml_delegation: [{entries}]}}"
    if framework(out_variant(target)):
        return [f"to run it outside of Core ML, {write}"]
    if target in torch.export.default_decompositions():
        return [f"what it is decomposed into may run outside of Core ML; to try, {write}"]
    return [f"ExecuTorch's runtime has no kernel for {name}, so it cannot run outside of Core ML"]


def what_it_said(error: BaseException) -> str:
    """Returns an error's type and message; one that tells nothing comes with its source line.

    ``AssertionError (executorch/exir/graph_module.py:44: assert node.op == "get_attr")``
    """
    text = _APPENDED.sub("", str(error)).strip()
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST].rstrip()} …"
    kind = type(error).__name__
    said = f"{kind}: {text}" if text else kind
    frames = traceback.extract_tb(error.__traceback__)
    if len(text.split()) > 2 or not frames:  # a KeyError has the key alone
        return said
    last = frames[-1]
    return f"{said} ({shown_path(last.filename)}:{last.lineno}: {last.line})"
