"""Lowers an edge program to a Core ML program inside an ExecuTorch program.

Compute units are left at their default: they do not affect the Core ML program, only a compile spec
around it, which the ``pte`` step writes.
"""

import gc
from collections.abc import Mapping, Sequence
from typing import Any

import coremltools
import torch
from executorch.backends.apple.coreml.compiler import CoreMLBackend
from executorch.backends.apple.coreml.compiler.coreml_preprocess import (
    MULTIMETHOD_WEIGHT_SHARING_STRATEGY,
)
from executorch.backends.apple.coreml.partition import CoreMLPartitioner
from executorch.exir import ExecutorchBackendConfig
from executorch.exir.backend.compile_spec_schema import CompileSpec

from pte_foundry.errors import ConfigError, FoundryError
from pte_foundry.findings import raise_for
from pte_foundry.heap import trim_heap
from pte_foundry.lowering import outside, states
from pte_foundry.lowering.edge_program import EdgeProgram, manager
from pte_foundry.lowering.enumerated_shapes import shape_findings
from pte_foundry.lowering.explain import Operators, explained
from pte_foundry.lowering.output_names import name_outputs
from pte_foundry.lowering.repairs import repaired
from pte_foundry.models.enumerated import of_method
from pte_foundry.models.inputs import inputs_table
from pte_foundry.models.methods import FORWARD
from pte_foundry.names import program_name
from pte_foundry.upstream import executorch_caches, torch_caches
from pte_foundry.upstream.coremltools_program_checks import checked_once
from pte_foundry.upstream.executorch_debug_info import DebugInfo, kept_debug_info
from pte_foundry.upstream.executorch_partitioner import leaving_out

_SEVERAL_FUNCTIONS = 9
"""The oldest specification version of models with several functions (coremltools 9.0,
``save_multifunction``)."""


class LoweringError(FoundryError):
    """Upstream could not turn this program into a Core ML program for this target."""


def compile_specs(target: dict, program: torch.export.ExportedProgram) -> list[CompileSpec]:
    """Returns the Core ML compile specs of a target.

    Args:
        target: its slice of the configuration (the ``lower`` stage), with ``enumerated_shapes`` by
            the program's names of inputs, if they count.
        program: the edge program, whose inputs enumerated shapes are matched with.
    """
    specs = CoreMLBackend.generate_compile_specs(
        compute_unit=coremltools.ComputeUnit.ALL,
        minimum_deployment_target=coremltools.target(target["specification_version"]),
        compute_precision=coremltools.precision(target["compute_precision"]),
        model_type=CoreMLBackend.MODEL_TYPE(target["model_type"]),
        op_linear_quantizer_config=target["op_linear_quantizer_config"],
        pass_names=target["pass_pipeline"],
    )
    if shapes := target.get("enumerated_shapes"):
        specs.append(CoreMLBackend.generate_enumerated_shapes_compile_spec(program, shapes))
    if target["multimethod_weight_sharing_strategy"]:
        strategy = MULTIMETHOD_WEIGHT_SHARING_STRATEGY(
            target["multimethod_weight_sharing_strategy"]
        )
        specs.append(
            CoreMLBackend.generate_multimethod_weight_sharing_strategy_compile_spec(strategy)
        )
    return specs


def lower(edges: EdgeProgram | Mapping[str, EdgeProgram], target: dict) -> bytes:
    """Returns the ``.pte`` of edge programs, as upstream writes it; see :func:`lower_described`."""
    return lower_described(edges, target)[0]


def lower_described(
    edges: EdgeProgram | Mapping[str, EdgeProgram],
    target: dict,
    constants: Mapping[str, Any] | None = None,
) -> tuple[bytes, DebugInfo]:
    """Returns the ``.pte`` of edge programs as upstream writes it, and what it lacks.

    Args:
        edges: by method, or the only one; they cannot be used afterwards.
        target: its slice of the configuration (the ``lower`` stage), with the model's
            ``enumerated_shapes`` if they count.
        constants: constant methods (``pte_foundry.models.constants``).

    Returns:
        The bytes, and the debug info of the Core ML models that methods share: a shared model has
        none.

    Raises:
        ConfigError: the model's enumerated shapes do not fit the program's inputs, or its methods
            cannot share weights as the target asks.
        LoweringError: upstream failed; the message has the operator, the cause and the fix.
        StateError: a buffer cannot be a Core ML state, or must not be one.
        MissingKernelError: an operator outside of the delegate cannot run on a device.
    """
    edges = {FORWARD: edges} if isinstance(edges, EdgeProgram) else dict(edges)
    shapes = {method: _enumerated(target, edges, method) for method in edges}
    options = target["partitioner"]
    if any(shapes.values()):  # upstream enumerates in graphs that are lowered whole
        options = options | {"lower_full_graph": True, "take_over_mutable_buffer": True}
    if len(edges) > 1:
        target = target | {"multimethod_weight_sharing_strategy": _sharing(target)}
    skip = None if options["lower_full_graph"] else options["skip_ops_for_coreml_delegation"]
    handles = {h: label for edge in edges.values() for h, label in edge.debug_handles.items()}
    for edge in edges.values():
        name_outputs(edge.program)
    known = Operators([edge.program for edge in edges.values()], handles)
    allowed = target["partitioner"]["take_over_mutable_buffer"]
    before = {method: states.Buffers(edge.program) for method, edge in edges.items()}
    try:
        partitioners = {
            method: CoreMLPartitioner(
                compile_specs=compile_specs(
                    target | {"enumerated_shapes": shapes[method]}, edge.program
                ),
                skip_ops_for_coreml_delegation=options["skip_ops_for_coreml_delegation"],
                take_over_mutable_buffer=options["take_over_mutable_buffer"],
                take_over_constant_data=options["take_over_constant_data"],
                lower_full_graph=options["lower_full_graph"],
            )
            for method, edge in edges.items()
        }
        skipped = outside.left_out(options["skip_ops_for_coreml_delegation"], handles)
        with repaired(), checked_once(), leaving_out(skipped), kept_debug_info() as debug_info:
            lowered = manager(edges, constants).to_backend(partitioners)
        programs = {method: lowered.exported_program(method) for method in edges}
        passes = [
            one
            for method, program in programs.items()
            for one in before[method].check(program, allowed)
        ]
        calls = outside.Calls(programs.values(), handles, skipped)
        del programs
        # Else copies of the weights stay in memory next to those that follow: SmolLM2 in fp32 took
        # 4.1 GB for weights of 0.63 GB.
        del edge, edges
        _forget()
        with calls.explained():
            written = lowered.to_executorch(ExecutorchBackendConfig(passes=passes)).buffer
        del lowered
        _forget()
        calls.check(written)
        return written, debug_info
    except FoundryError:
        raise
    except Exception as error:
        raise LoweringError(explained(error, _task(target), known, skip)) from error


def _enumerated(
    target: dict, edges: Mapping[str, EdgeProgram], method: str
) -> dict[str, Sequence[Sequence[int]]]:
    """The enumerated shapes of a method, by the names that inputs have inside of programs."""
    given = of_method(target.get("enumerated_shapes"), method, list(edges))
    shapes = {program_name(name): value for name, value in given.items()}
    if shapes:
        rows = inputs_table(edges[method].program)
        raise_for(shape_findings(("enumerated_shapes",), shapes, rows))
    return shapes


def _sharing(target: dict) -> str | None:
    """How several methods share weights. A Core ML model with several functions needs iOS18."""
    asked = target["multimethod_weight_sharing_strategy"]
    if target["specification_version"] >= _SEVERAL_FUNCTIONS:
        return asked
    if asked == "positional":
        raise ConfigError(
            "multimethod_weight_sharing_strategy: positional makes one Core ML model with a "
            "function for each method, which needs iOS18 or macOS15; raise minimum_os, or write "
            "disabled (or null), with which every method has its own weights."
        )
    return "disabled"


def _task(target: dict) -> str:
    version, precision = target["specification_version"], target["compute_precision"]
    return f"lower {{}} to Core ML specification {version} in {precision}"


def _forget() -> None:
    """Frees the programs that nothing but caches and circular references refers to."""
    torch_caches.clear()
    executorch_caches.clear()
    gc.collect()
    trim_heap()
