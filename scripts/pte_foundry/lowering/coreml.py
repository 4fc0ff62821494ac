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
from executorch.exir.backend.compile_spec_schema import CompileSpec

from pte_foundry.errors import FoundryError
from pte_foundry.heap import trim_heap
from pte_foundry.lowering.edge_program import EdgeProgram
from pte_foundry.lowering.repairs import repaired
from pte_foundry.upstream import executorch_caches, torch_caches
from pte_foundry.upstream.coremltools_program_checks import checked_once


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
        LoweringError: upstream failed; the message has its reason.
    """
    options = target["partitioner"]
    partitioner = CoreMLPartitioner(
        compile_specs=compile_specs(target, edge.program),
        skip_ops_for_coreml_delegation=options["skip_ops_for_coreml_delegation"],
        take_over_mutable_buffer=options["take_over_mutable_buffer"],
        take_over_constant_data=options["take_over_constant_data"],
        lower_full_graph=options["lower_full_graph"],
    )
    try:
        with repaired(), checked_once():
            lowered = edge.manager().to_backend(partitioner)
        # Else copies of the weights stay in memory next to those that follow: SmolLM2 in fp32 took
        # 4.1 GB for weights of 0.63 GB.
        del edge
        _forget()
        written = lowered.to_executorch().buffer
        del lowered
        _forget()
        return written
    except Exception as error:
        raise LoweringError(
            f"upstream cannot lower this program to Core ML specification "
            f"{target['specification_version']} in {target['compute_precision']}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _forget() -> None:
    """Frees the programs that nothing but caches and circular references refers to."""
    torch_caches.clear()
    executorch_caches.clear()
    gc.collect()
    trim_heap()
