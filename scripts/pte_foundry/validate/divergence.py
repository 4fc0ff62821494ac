"""Where a program's error comes from: fp32 and the artifact side by side, layer by layer.

A layer is an operator of the fp32 program whose result the artifact holds as a value of its own, or
several of them where Core ML made one of many. What stands around an operator belongs to its layer:
weights as they are stored, casts, and the quantization of its result where whatever reads that
result reads it quantized.

Two things are measured of a layer, both as noise over the power of its fp32 result:

accumulated
    what the artifact computed, against what fp32 computed from the same sample.
introduced
    what the artifact computed, against what the fp32 operators compute from *the artifact's own*
    inputs of the layer. What earlier layers did wrong is then on both sides: what remains is this
    layer's own doing. An infinity that came in is not counted, one that arises is.

Limits: an error that two layers introduce may cancel out later, and a large error in a layer that
hardly reaches the outputs is large nevertheless. Operators that are not delegated run in PyTorch on
both sides and introduce nothing; values inside of loops and branches are not looked at; integers
(indices, token numbers) have no noise. Only the method ``forward`` is run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pte_foundry.errors import InputError
from pte_foundry.models import operators
from pte_foundry.pte import Pte
from pte_foundry.validate.dataflow import Dataflow
from pte_foundry.validate.hazards import Hazards, operators_of
from pte_foundry.validate.metrics import SQNR_CAP_DB, sqnr_db
from pte_foundry.validate.side_by_side import Meet, SideBySide

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from pte_foundry.models.tensors import Sample
    from pte_foundry.pte.delegate import Delegate

METHOD = "forward"
SAMPLES = 4
"""How many evaluation samples a report runs."""


@dataclass(frozen=True)
class _Value:
    """A value of the artifact: the operation that computes it, and the unit that it is held in."""

    delegate: Delegate
    name: str
    op: str
    unit: float


def diverge(
    pte: Pte,
    program: ExportedProgram,
    sources: Mapping[str, str],
    samples: Sequence[Sample],
) -> dict[str, Any]:
    """Runs the artifact and the fp32 program on the samples and compares them layer by layer.

    Args:
        pte: the artifact, as freshly loaded: its states are those of the first sample.
        program: the exported fp32 program.
        sources: what each debug handle of the artifact stands for, as the ``lower`` step wrote it.
        samples: inputs of one call each.

    Returns:
        ``layers``, the one that introduces most first: ``layer`` (its operators, see
        :func:`pte_foundry.models.operators.labels`), ``position`` (in the order of the fp32 program), ``op``
        and ``value`` (its last operation in Core ML), ``introduced_sqnr_db`` and
        ``accumulated_sqnr_db`` (``None``: infinite noise, which comes first), the ranges
        ``reference`` and ``program`` (``low`` and ``high`` of the finite values, ``None`` if there
        are none; ``non_finite``, how many are not), ``hazards`` (kinds that arise in it).
        ``uncovered``: operators without a value in the artifact to compare, in their order.
        ``samples``: how many were run.

    Raises:
        InputError: there are no samples.
        ProgramError: the artifact cannot be executed.
    """
    if not samples:
        raise InputError("Nothing to run: there are no samples. Give at least one.")
    module = program.module(check_guards=False)
    layers = _Layers(pte, module, sources)
    hazards = {delegate: Hazards() for delegate in pte.delegates if delegate.method == METHOD}
    buffers = {name: value.detach().clone() for name, value in module.named_buffers()}
    for sample in samples:
        values: dict[tuple[Delegate, str], torch.Tensor] = {}

        def tap(delegate: Delegate, name: str, value: torch.Tensor, values: dict = values) -> None:
            hazards[delegate].tap(name, value)
            if (delegate, name) in layers.wanted:
                values[delegate, name] = value

        pte.run(sample, METHOD, tap)
        with torch.no_grad():
            # Clones, because operators in place may write into them.
            inputs = [value.clone() for value in sample]
            SideBySide(module, buffers, layers.meeting(values)).run(*inputs)
    for delegate, seen in hazards.items():
        for finding in seen.findings(delegate.program):
            layers.note(delegate, finding["name"], finding["kind"])
    found = layers.measured()
    found.sort(key=_most_introduced)
    return {"layers": found, "uncovered": layers.uncovered(), "samples": len(samples)}


def _most_introduced(layer: Mapping[str, Any]) -> tuple[float, int]:
    introduced = layer["introduced_sqnr_db"]
    return (-SQNR_CAP_DB - 1 if introduced is None else introduced, layer["position"])


class _Layers:
    """Which values of the artifact belong to which nodes of the fp32 graph, and their sums."""

    def __init__(self, pte: Pte, module: torch.fx.GraphModule, sources: Mapping[str, str]) -> None:
        graph = module.graph
        labels = operators.labels(graph)
        self._label = {node: labels[node.name] for node in graph.nodes if node.name in labels}
        self._order = {node: position for position, node in enumerate(self._label)}
        self._varying = _varying(graph)
        node_of = {label: node for node, label in self._label.items()}
        for node, label in self._label.items():
            if (folded := _folded_norm(node)) and self._label[folded] not in sources.values():
                node_of[label] = folded
        self._sums: dict[torch.fx.Node, _Sums] = {}
        self._values: dict[torch.fx.Node, list[_Value]] = {}
        self._node_of_value: dict[tuple[Delegate, str], torch.fx.Node] = {}
        for delegate in pte.delegates:
            if delegate.method == METHOD:
                self._read(delegate, operators_of(delegate.model.debug_info, sources), node_of)
        self.wanted = {(v.delegate, v.name) for values in self._values.values() for v in values}

    def _read(
        self,
        delegate: Delegate,
        labels_of: Mapping[str, tuple[str, ...]],
        node_of: Mapping[str, torch.fx.Node],
    ) -> None:
        function = Dataflow(delegate.program, delegate.function)
        for operation in delegate.program.operations(delegate.function):
            for output in operation.outputs:
                known = [node_of[x] for x in labels_of.get(output.name, ()) if x in node_of]
                if not known:
                    continue
                # One operation for several operators gives what the last of them gives.
                node = max(known, key=self._order.__getitem__)
                names = function.with_quantization(output.name)
                self._node_of_value |= {(delegate, name): node for name in names}
                if node in self._varying:
                    value = _Value(delegate, names[-1], operation.op, function.unit(names[-1]))
                    # An operator that became several operations: the last one gives its result.
                    self._values.setdefault(node, []).insert(0, value)

    def meeting(self, values: Mapping[tuple[Delegate, str], torch.Tensor]) -> Meet:
        """For :class:`SideBySide`: replaces a node's result by the artifact's, and measures."""

        def meet(node: torch.fx.Node, reference: Any, local: Any) -> Any:
            if not isinstance(reference, torch.Tensor) or not reference.is_floating_point():
                return local
            for value in self._values.get(node, ()):
                found = values.get((value.delegate, value.name))
                if found is None or not found.is_floating_point():
                    continue
                if found.shape == reference.shape:
                    result = found.to(reference.dtype) / value.unit
                    self._sums.setdefault(node, _Sums(value)).add(result, reference, local)
                    return result
            return local

        return meet

    def note(self, delegate: Delegate, name: str, kind: str) -> None:
        """Writes a hazard of a value down for its layer, if it has one."""
        sums = self._sums.get(self._node_of_value.get((delegate, name)))
        if sums is not None and kind not in sums.hazards:
            sums.hazards.append(kind)

    def measured(self) -> list[dict[str, Any]]:
        return [
            {
                "layer": [self._label[part] for part in self._parts(node)],
                "position": self._order[node],
                **sums.measured(),
            }
            for node, sums in self._sums.items()
        ]

    def uncovered(self) -> list[str]:
        covered = {part for node in self._sums for part in self._parts(node)}
        return [
            label
            for node, label in self._label.items()
            if node in self._varying and node not in covered
        ]

    def _parts(self, node: torch.fx.Node) -> list[torch.fx.Node]:
        """A layer's operators: its node, and those before it that are no layers themselves."""
        parts = [node]
        for part in parts:  # grows while it is walked
            parts += [
                given
                for given in part.all_input_nodes
                if given in self._label
                and given in self._varying
                and given not in self._sums
                and given not in parts
            ]
        return sorted(parts, key=self._order.__getitem__)


@dataclass
class _Sums:
    """Sums over the samples of one layer."""

    value: _Value
    signal: list[float] = field(default_factory=list)
    introduced: list[float] = field(default_factory=list)
    accumulated: list[float] = field(default_factory=list)
    ranges: dict[str, list[tuple[float, float, int]]] = field(default_factory=dict)
    hazards: list[str] = field(default_factory=list)

    def add(self, found: torch.Tensor, reference: torch.Tensor, local: torch.Tensor) -> None:
        ours, theirs, own = (_flat(value) for value in (found, reference, local))
        finite = theirs[np.isfinite(theirs)]
        self.signal.append(float(np.sum(finite * finite)))
        self.accumulated.append(_noise(ours, theirs))
        self.introduced.append(_noise(ours, own))
        for side, values in (("program", ours), ("reference", theirs)):
            self.ranges.setdefault(side, []).append(_range(values))

    def measured(self) -> dict[str, Any]:
        signal = math.fsum(self.signal)
        return {
            "op": self.value.op,
            "value": self.value.name,
            "introduced_sqnr_db": sqnr_db(signal, math.fsum(self.introduced)),
            "accumulated_sqnr_db": sqnr_db(signal, math.fsum(self.accumulated)),
            "hazards": self.hazards,
            **{side: _joined(ranges) for side, ranges in self.ranges.items()},
        }


def _flat(value: torch.Tensor) -> np.ndarray:
    return value.detach().to(torch.float64).contiguous().reshape(-1).numpy()


def _noise(ours: np.ndarray, expected: np.ndarray) -> float:
    """Power of the difference where a finite value was expected; infinite if ours is not so."""
    there = np.isfinite(expected)
    error = ours[there] - expected[there]
    return float(np.sum(error * error)) if np.isfinite(error).all() else math.inf


def _range(values: np.ndarray) -> tuple[float, float, int]:
    finite = values[np.isfinite(values)]
    lowest = float(np.min(finite, initial=math.inf))
    return lowest, float(np.max(finite, initial=-math.inf)), len(values) - len(finite)


def _joined(ranges: Sequence[tuple[float, float, int]]) -> dict[str, Any]:
    lows, highs, counts = zip(*ranges, strict=True)
    low, high = min(lows), max(highs)
    if low > high:  # there was no finite value
        low = high = None
    return {"low": low, "high": high, "non_finite": sum(counts)}


def _varying(graph: torch.fx.Graph) -> set[torch.fx.Node]:
    """Nodes whose value depends on the inputs; Core ML folds the others into constants."""
    found: set[torch.fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def _folded_norm(node: torch.fx.Node) -> torch.fx.Node | None:
    """The batch norm that alone reads a node. Quantization folds it into the convolution."""
    users = list(node.users)
    if len(users) == 1 and "batch_norm" in str(users[0].target) and users[0].args[0] is node:
        return users[0]
    return None
