"""Lowers an edge program to a Core ML program inside an ExecuTorch program.

Compute units are left at their default: they do not affect the Core ML program, only a compile spec
around it, which the ``pte`` step writes.
"""

import gc

import coremltools
import torch
from executorch.backends.apple.coreml.compiler import CoreMLBackend
from executorch.backends.apple.coreml.compiler.coreml_preprocess import (
    MULTIMETHOD_WEIGHT_SHARING_STRATEGY,
)
from executorch.backends.apple.coreml.partition import CoreMLPartitioner
from executorch.exir import ExecutorchBackendConfig
from executorch.exir.backend.compile_spec_schema import CompileSpec

from pte_foundry.errors import FoundryError
from pte_foundry.findings import raise_for
from pte_foundry.heap import trim_heap
from pte_foundry.lowering import outside, states
from pte_foundry.lowering.edge_program import EdgeProgram
from pte_foundry.lowering.enumerated_shapes import shape_findings
from pte_foundry.lowering.explain import Operators, explained
from pte_foundry.lowering.output_names import name_outputs
from pte_foundry.lowering.repairs import repaired
from pte_foundry.models.inputs import inputs_table
from pte_foundry.models.layout import identifier
from pte_foundry.upstream import executorch_caches, torch_caches
from pte_foundry.upstream.coremltools_program_checks import checked_once
from pte_foundry.upstream.executorch_partitioner import leaving_out


class LoweringError(FoundryError):
    """Upstream could not turn this program into a Core ML program for this target."""


def compile_specs(target: dict, program: torch.export.ExportedProgram) -> list[CompileSpec]:
    """Returns the Core ML compile specs of a target.

    Args:
        target: its slice of the configuration (the ``lower`` stage).
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
    if target["enumerated_shapes"]:
        specs.append(
            CoreMLBackend.generate_enumerated_shapes_compile_spec(
                program, target["enumerated_shapes"]
            )
        )
    if target["multimethod_weight_sharing_strategy"]:
        strategy = MULTIMETHOD_WEIGHT_SHARING_STRATEGY(
            target["multimethod_weight_sharing_strategy"]
        )
        specs.append(
            CoreMLBackend.generate_multimethod_weight_sharing_strategy_compile_spec(strategy)
        )
    return specs


def lower(edge: EdgeProgram, target: dict) -> bytes:
    """Returns the ``.pte`` of an edge program, as upstream writes it.

    Args:
        edge: cannot be used afterwards.
        target: its slice of the configuration (the ``lower`` stage).

    Raises:
        ConfigError: the target's enumerated shapes do not fit the program's inputs.
        LoweringError: upstream failed; the message has the operator, the cause and the fix.
        StateError: a buffer cannot be a Core ML state, or must not be one.
        MissingKernelError: an operator outside of the delegate cannot run on a device.
    """
    if shapes := target["enumerated_shapes"]:
        # By the names that inputs have inside of programs: lower case, no dots.
        shapes = {identifier(name).lower(): value for name, value in shapes.items()}
        target = target | {"enumerated_shapes": shapes}
        raise_for(shape_findings(("enumerated_shapes",), shapes, inputs_table(edge.program)))
    name_outputs(edge.program)
    options = target["partitioner"]
    known = Operators(edge.program, edge.debug_handles)
    skip = None if options["lower_full_graph"] else options["skip_ops_for_coreml_delegation"]
    buffers, started = states.mutated(edge.program), states.starting_values(edge.program)
    scalars = states.scalars(edge.program)
    try:
        partitioner = CoreMLPartitioner(
            compile_specs=compile_specs(target, edge.program),
            skip_ops_for_coreml_delegation=options["skip_ops_for_coreml_delegation"],
            take_over_mutable_buffer=options["take_over_mutable_buffer"],
            take_over_constant_data=options["take_over_constant_data"],
            lower_full_graph=options["lower_full_graph"],
        )
        skipped = outside.left_out(options["skip_ops_for_coreml_delegation"], edge.debug_handles)
        with repaired(), checked_once(), leaving_out(skipped):
            lowered = edge.manager().to_backend(partitioner)
        program = lowered.exported_program()
        taken_over = buffers - states.mutated(program)
        allowed = options["take_over_mutable_buffer"]
        states.check_taken_over(taken_over, started, scalars, allowed)
        passes = states.write_starting_values(program, started)
        calls = outside.Calls(program, edge.debug_handles, skipped)
        del program
        # Else copies of the weights stay in memory next to those that follow: SmolLM2 in fp32 took
        # 4.1 GB for weights of 0.63 GB.
        del edge
        _forget()
        with calls.explained():
            written = lowered.to_executorch(ExecutorchBackendConfig(passes=passes)).buffer
        del lowered
        _forget()
        calls.check(written)
        return written
    except FoundryError:
        raise
    except Exception as error:
        raise LoweringError(explained(error, _task(target), known, skip)) from error


def _task(target: dict) -> str:
    version, precision = target["specification_version"], target["compute_precision"]
    return f"lower {{}} to Core ML specification {version} in {precision}"


def _forget() -> None:
    """Frees the programs that nothing but caches and circular references refers to."""
    torch_caches.clear()
    executorch_caches.clear()
    gc.collect()
    trim_heap()
