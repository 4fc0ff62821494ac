"""Per-layer error attribution: the artifact against the fp32 program, layer by layer.

A layer is an operator of the fp32 program whose result the artifact holds as a value of its own, or
several operators where Core ML fused them into one. What surrounds an operator belongs to its
layer: the stored form of its weights, casts, and the quantization of its result if every reader of
the result reads it quantized.

Two errors of a layer are measured, both as noise over the power of its fp32 result:

accumulated
    The artifact's result against the fp32 result for the same sample.
introduced
    The artifact's result against the result of the fp32 operators on *the artifact's own* inputs
    of the layer. Both sides then contain the errors of earlier layers, so only the error introduced
    by the layer itself is measured. An infinity in the inputs does not count, a new one does.

Limits: errors of two layers may cancel out later, and the error of a layer that hardly reaches the
outputs counts fully: this measures local error, not its effect on the outputs. Operators that are
not delegated run in PyTorch on both sides and introduce nothing. Values inside of loops and
branches are not compared, and integers (indices, tokens) have no noise. Of conversations the
recorded calls of each method are run (``models.play``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from pte_foundry.errors import InputError
from pte_foundry.models import operators
from pte_foundry.models.inference import resetter
from pte_foundry.models.methods import FORWARD
from pte_foundry.models.tensors import calls_of
from pte_foundry.pte import Pte
from pte_foundry.validate.dataflow import Dataflow
from pte_foundry.validate.dual_interpreter import DualInterpreter, Substitute
from pte_foundry.validate.hazards import Hazards, operators_of
from pte_foundry.validate.hazards_schema import HazardKind
from pte_foundry.validate.layer_error import LayerError
from pte_foundry.validate.metrics_schema import SQNR_CAP_DB

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from pte_foundry.models.tensors import Sample, Samples
    from pte_foundry.pte.delegate import Delegate
    from pte_foundry.validate.divergence_schema import DivergenceReport, LayerDivergence

SAMPLES = 4
"""Default number of evaluation samples to run."""


def diverge_all(
    pte: Pte,
    programs: Mapping[str, ExportedProgram],
    debug_handles: Mapping[str, str],
    reference: Samples,
    limit: int = SAMPLES,
    method: str | None = None,
) -> DivergenceReport:
    """Runs :func:`diverge` for every method, or for one; layers of several have their method.

    A method of conversations without recorded calls does not run; it is among the uncovered.

    Args:
        pte: the artifact.
        programs: the exported fp32 programs by method.
        debug_handles: see :func:`diverge`.
        reference: the evaluation samples, and the recorded calls of conversations.
        limit: the number of samples to run, or of calls of each method.
        method: the only one to compare; None: all.

    Raises:
        InputError: there is no such method.
    """
    if method is not None and method not in programs:
        raise InputError(f"no method {method!r}; the model has {', '.join(programs)}")
    found: DivergenceReport = {"layers": [], "uncovered": [], "samples": 0}
    for name, program in programs.items():
        if method not in (None, name):
            continue
        samples = reference.inputs_of(name)[:limit]
        if not samples and reference.methods:
            found["uncovered"].append(f"{name}: everything, for lack of a recorded call")
            continue
        calls = calls_of(name, reference.calls)[:limit]
        continued = {n for n, call in enumerate(calls) if n and calls[n - 1].sample == call.sample}
        one = diverge(pte, program, debug_handles, samples, name, continued)
        if len(programs) == 1:
            return one
        found["layers"] += [{**layer, "method": name} for layer in one["layers"]]
        found["uncovered"] += [f"{name}: {label}" for label in one["uncovered"]]
        found["samples"] += one["samples"]
    found["layers"].sort(key=_most_introduced)
    return found


def diverge(
    pte: Pte,
    program: ExportedProgram,
    debug_handles: Mapping[str, str],
    samples: Sequence[Sample],
    method: str = FORWARD,
    continued: Collection[int] = (),
) -> DivergenceReport:
    """Runs a method of the artifact and of the fp32 model, and compares them layer by layer.

    Args:
        pte: the artifact. Every sample starts from the initial states of both programs, unless it
            is ``continued``.
        program: the exported fp32 program.
        debug_handles: debug handle to "operator @ module", from the ``lower`` step.
        samples: the inputs of each call.
        method: the method.
        continued: numbers of samples that start from the states that the one before has left.

    Raises:
        InputError: there are no samples.
        ProgramError: the artifact cannot be executed.
    """
    if not samples:
        raise InputError("There are no samples to run; give at least one.")
    module = program.module(check_guards=False)
    delegates = pte.delegates_of(method)
    layers = _Layers(delegates, module, debug_handles)
    hazards = {delegate: Hazards() for delegate in delegates}
    initial = {name: value.detach().clone() for name, value in module.named_buffers()}
    reset = resetter(module)
    for number, sample in enumerate(samples):
        if number not in continued:
            pte.reset()
            reset()
            buffers = {name: value.clone() for name, value in initial.items()}
        values: dict[tuple[Delegate, str], torch.Tensor] = {}

        def tap(delegate: Delegate, name: str, value: torch.Tensor, values: dict = values) -> None:
            hazards[delegate].tap(name, value)
            if (delegate, name) in layers.compared:
                values[delegate, name] = value

        pte.run(sample, method, tap)
        with torch.no_grad():
            # Clones, because operators in place may write into them.
            inputs = [value.clone() for value in sample]
            DualInterpreter(module, buffers, layers.comparing(values)).run(*inputs)
    for delegate, collected in hazards.items():
        for hazard in collected.findings(delegate.program.function(delegate.function)):
            layers.add_hazard(delegate, hazard["name"], hazard["kind"])
    found = layers.reports()
    found.sort(key=_most_introduced)
    return {"layers": found, "uncovered": layers.uncovered(), "samples": len(samples)}


def _most_introduced(layer: LayerDivergence) -> tuple[float, int]:
    introduced = layer["introduced_sqnr_db"]
    return (-SQNR_CAP_DB - 1 if introduced is None else introduced, layer["position"])


@dataclass(frozen=True)
class _Value:
    """A value of the artifact: the operation that computes it, and the unit it is stored in."""

    delegate: Delegate
    name: str
    op: str
    unit: float


@dataclass
class _Layer:
    """A node of the fp32 graph with a comparable value in the artifact."""

    value: _Value
    error: LayerError = field(default_factory=LayerError)
    hazards: list[HazardKind] = field(default_factory=list)


class _Layers:
    """Maps values of the artifact to nodes of the fp32 graph, and sums their errors."""

    def __init__(
        self,
        delegates: Iterable[Delegate],
        module: torch.fx.GraphModule,
        debug_handles: Mapping[str, str],
    ) -> None:
        graph = module.graph
        labels = operators.labels(graph)
        self._label = {node: labels[node.name] for node in graph.nodes if node.name in labels}
        self._order = {node: position for position, node in enumerate(self._label)}
        self._varying = operators.varying(graph)
        node_of = {label: node for node, label in self._label.items()}
        delegated = set(debug_handles.values())
        for node, label in self._label.items():
            if (norm := _folded_norm(node)) and self._label[norm] not in delegated:
                node_of[label] = norm
        self._layers: dict[torch.fx.Node, _Layer] = {}
        self._values: dict[torch.fx.Node, list[_Value]] = {}
        self._node_of_value: dict[tuple[Delegate, str], torch.fx.Node] = {}
        for delegate in delegates:
            labels_of = operators_of(delegate.debug_info, debug_handles)
            self._map_values(delegate, labels_of, node_of)
        self.compared = {(v.delegate, v.name) for values in self._values.values() for v in values}

    def _map_values(
        self,
        delegate: Delegate,
        labels_of: Mapping[str, tuple[str, ...]],
        node_of: Mapping[str, torch.fx.Node],
    ) -> None:
        dataflow = Dataflow(delegate.program, delegate.function)
        for operation in delegate.program.operations(delegate.function):
            for output in operation.outputs:
                nodes = [node_of[x] for x in labels_of.get(output.name, ()) if x in node_of]
                if not nodes:
                    continue
                # One operation for several operators computes the result of the last of them.
                node = max(nodes, key=self._order.__getitem__)
                names = dataflow.with_quantization(output.name)
                self._node_of_value |= {(delegate, name): node for name in names}
                if node in self._varying:
                    value = _Value(delegate, names[-1], operation.op, dataflow.unit(names[-1]))
                    # Several operations for one operator: the last one computes its result.
                    self._values.setdefault(node, []).insert(0, value)

    def comparing(self, values: Mapping[tuple[Delegate, str], torch.Tensor]) -> Substitute:
        """Returns a function that measures a node and substitutes the artifact's result for it."""

        def substitute(node: torch.fx.Node, reference: Any, local: Any) -> Any:
            if not isinstance(reference, torch.Tensor) or not reference.is_floating_point():
                return local
            for value in self._values.get(node, ()):
                found = values.get((value.delegate, value.name))
                if found is None or not found.is_floating_point():
                    continue
                if found.shape == reference.shape:
                    result = found.to(reference.dtype) / value.unit
                    layer = self._layers.setdefault(node, _Layer(value))
                    layer.error.add(result, reference, local)
                    return result
            return local

        return substitute

    def add_hazard(self, delegate: Delegate, name: str, kind: HazardKind) -> None:
        """Adds the hazard of a value to its layer, if it has one."""
        layer = self._layers.get(self._node_of_value.get((delegate, name)))
        if layer is not None and kind not in layer.hazards:
            layer.hazards.append(kind)

    def reports(self) -> list[LayerDivergence]:
        return [
            {
                "layer": [self._label[part] for part in self._parts(node)],
                "position": self._order[node],
                "op": layer.value.op,
                "value": layer.value.name,
                "hazards": layer.hazards,
                **layer.error.summed(),
            }
            for node, layer in self._layers.items()
        ]

    def uncovered(self) -> list[str]:
        covered = {part for node in self._layers for part in self._parts(node)}
        return [
            label
            for node, label in self._label.items()
            if node in self._varying and node not in covered
        ]

    def _parts(self, node: torch.fx.Node) -> list[torch.fx.Node]:
        """A layer's operators: its node, and those before it that are not layers themselves."""
        parts = [node]
        for part in parts:  # grows while it is walked
            parts += [
                given
                for given in part.all_input_nodes
                if given in self._label
                and given in self._varying
                and given not in self._layers
                and given not in parts
            ]
        return sorted(parts, key=self._order.__getitem__)


def _folded_norm(node: torch.fx.Node) -> torch.fx.Node | None:
    """The batch norm that is the only reader of a node: quantization folds it into the node."""
    users = list(node.users)
    if len(users) == 1 and "batch_norm" in str(users[0].target) and users[0].args[0] is node:
        return users[0]
    return None
