"""Buffers that a program mutates: Core ML states (from iOS 18 on), or buffers of ExecuTorch.

Core ML creates every state as zeros (coremltools 9.0, ``ct.StateType`` has no initial value), and
ExecuTorch writes only the shape of a mutable buffer unless it is told to write the values too
(executorch 1.5.1, exir/emit/_emitter.py, ``et_init_buffer``).
"""

import logging

import torch
from executorch.exir.passes.init_mutable_pass import InitializedMutableBufferPass
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputSpec, TensorArgument
from torch.fx import Node

from pte_foundry.errors import FoundryError


class StateError(FoundryError):
    """A buffer cannot be a Core ML state, or became one that was not allowed."""


def mutated(program: ExportedProgram) -> set[str]:
    """Returns the names of the buffers that a program mutates itself."""
    return set(program.graph_signature.buffers_to_mutate.values())


def separate_outputs(program: ExportedProgram) -> None:
    """Gives every output of a program that mutates buffers a node of its own, in place.

    A delegate consumes the new value of its state. Upstream refuses one that is also an input or
    another output (executorch 1.5.1, exir/lowered_backend_module.py, "used as other types of
    outputs").

    Args:
        program: a functional torch program, before it becomes an edge program.
    """
    if not mutated(program):
        return
    output = next(node for node in program.graph.nodes if node.op == "output")
    values, specs = list(output.args[0]), program.graph_signature.output_specs
    seen = {node for node in program.graph.nodes if node.op == "placeholder"}
    for number, (value, spec) in enumerate(zip(values, specs, strict=True)):
        if not isinstance(value, Node):
            continue
        if value in seen:
            with program.graph.inserting_before(output):
                copy = program.graph.call_function(torch.ops.aten.clone.default, (value,))
            copy.meta = dict(value.meta)
            values[number] = copy
            specs[number] = OutputSpec(spec.kind, TensorArgument(copy.name), spec.target)
        seen.add(values[number])
    output.args = (tuple(values),)
    program.graph_module.recompile()


class Buffers:
    """The buffers that a program mutates, before it is lowered.

    Args:
        program: an edge program without delegates, which still has the values.
    """

    def __init__(self, program: ExportedProgram) -> None:
        self._mutated = mutated(program)
        self._started, self._scalars = starting_values(program), scalars(program)

    def check(self, lowered: ExportedProgram, allowed: bool) -> list[InitializedMutableBufferPass]:
        """Checks the same program with its delegates; returns the passes for ``to_executorch``.

        Args:
            lowered: the program.
            allowed: whether the target takes over mutable buffers.

        Raises:
            StateError: see :func:`check_taken_over`.
        """
        taken_over = self._mutated - mutated(lowered)
        check_taken_over(taken_over, self._started, self._scalars, allowed)
        if allowed and (left := mutated(lowered)):
            logging.warning(
                "%s stays outside of Core ML, in ExecuTorch's memory, although the target takes "
                "over mutable buffers: an operator that Core ML lacks computes the new value. "
                "With partitioner.lower_full_graph: true this is an error that names it.",
                _named(left),
            )
        return write_starting_values(lowered, self._started)


def starting_values(program: ExportedProgram) -> frozenset[str]:
    """Returns the names of the mutated buffers that start with values other than zero.

    Args:
        program: an edge program without delegates, which still has the values.
    """
    return frozenset(name for name, value in _values(program).items() if value.any())


def scalars(program: ExportedProgram) -> frozenset[str]:
    """Returns the names of the mutated buffers without dimensions, such as a counter of steps."""
    return frozenset(name for name, value in _values(program).items() if not value.dim())


def _values(program: ExportedProgram) -> dict[str, torch.Tensor]:
    """The starting values of the buffers that a program mutates, by name."""
    values = {**program.constants, **program.state_dict}
    return {name: values[name] for name in mutated(program)}


def check_taken_over(
    states: set[str], started: frozenset[str], scalar: frozenset[str], allowed: bool
) -> None:
    """Checks the buffers that became Core ML states.

    Args:
        states: their names.
        started: the result of :func:`starting_values`.
        scalar: the result of :func:`scalars`.
        allowed: whether the target takes over mutable buffers.

    Raises:
        StateError: a state must start with values other than zero or has no dimensions, or there
            are states although the target does not take over buffers.
    """
    if states and not allowed:
        raise StateError(
            f"{_named(states)} became a Core ML state, although the target has "
            "take_over_mutable_buffer: false. Pass the buffer as an input and return its new value "
            "as an output, or allow states with take_over_mutable_buffer: true (iOS18 or newer)."
        )
    if lost := states & started:
        raise StateError(
            f"{_named(lost)} starts with values other than zero, and a Core ML state always "
            "starts with zeros. Start with zeros, for example by storing the difference from the "
            "initial value, or leave the buffer to ExecuTorch with take_over_mutable_buffer: false."
        )
    if shapeless := states & scalar:
        raise StateError(
            f"{_named(shapeless)} has no dimensions, and a Core ML state has at least one. "
            "Register it with one element, as torch.zeros(1), or leave the buffer to ExecuTorch "
            "with take_over_mutable_buffer: false."
        )


def write_starting_values(
    program: ExportedProgram, started: frozenset[str]
) -> list[InitializedMutableBufferPass]:
    """Returns the passes for ``to_executorch`` that write the values of ExecuTorch's buffers.

    Args:
        program: an edge program with its delegates.
        started: the result of :func:`starting_values`.
    """
    placeholders = {name: node for node, name in program.graph_signature.inputs_to_buffers.items()}
    nodes = [placeholders[name] for name in sorted(mutated(program) & started)]
    return [InitializedMutableBufferPass(nodes)] if nodes else []


def _named(names: set[str]) -> str:
    return f"the buffer{'s' if len(names) > 1 else ''} {', '.join(sorted(names))}"
