"""Lowers a torch program to Core ML inside an ExecuTorch program.

Compute units are left at their default: they change nothing in the Core ML program, only a compile
spec around it, which the ``pte`` step writes.
"""

import coremltools
import torch
from executorch.backends.apple.coreml.compiler import CoreMLBackend
from executorch.backends.apple.coreml.compiler.coreml_preprocess import (
    MULTIMETHOD_WEIGHT_SHARING_STRATEGY,
)
from executorch.backends.apple.coreml.partition import CoreMLPartitioner
from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
from executorch.exir.backend.compile_spec_schema import CompileSpec
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from scripts import operators
from scripts.coreml_passes import sound_reshapes
from scripts.errors import FoundryError


class LoweringError(FoundryError):
    """Upstream could not turn this program into a Core ML program for this target."""


class OperatorSources(PassBase):
    """Changes nothing; notes which operator of the program each debug handle stands for.

    Runs on the edge program, after handles are given and before operators vanish in the delegate.
    Decomposed operators are traced back to what they were in the program that is lowered.
    """

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__()
        self._labels = operators.labels(program.graph)
        self.sources: dict[str, str] = {}

    def call(self, graph_module: torch.fx.GraphModule) -> PassResult:
        for node in graph_module.graph.nodes:
            handle = node.meta.get("debug_handle")
            if node.op == "call_function" and isinstance(handle, int):
                label = self._labels.get(operators.original(node) or "")
                self.sources[str(handle)] = label or operators.describe(node)
        return PassResult(graph_module, False)


def compile_specs(target: dict, program: torch.export.ExportedProgram) -> list[CompileSpec]:
    """The Core ML compile specs that a target's slice of the configuration asks for."""
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


def lower(program: torch.export.ExportedProgram, target: dict) -> tuple[bytes, dict[str, str]]:
    """The ``.pte`` as upstream writes it, and the torch source of each debug handle.

    Raises LoweringError with upstream's reason.
    """
    options = target["partitioner"]
    partitioner = CoreMLPartitioner(
        compile_specs=compile_specs(target, program),
        skip_ops_for_coreml_delegation=options["skip_ops_for_coreml_delegation"],
        take_over_mutable_buffer=options["take_over_mutable_buffer"],
        take_over_constant_data=options["take_over_constant_data"],
        lower_full_graph=options["lower_full_graph"],
    )
    sources = OperatorSources(program)
    try:
        with sound_reshapes():
            edge = to_edge_transform_and_lower(
                program,
                partitioner=[partitioner],
                transform_passes=[sources],
                # As upstream's own Core ML recipes: what Core ML keeps whole is not core ATen.
                compile_config=EdgeCompileConfig(_check_ir_validity=False),
            )
        return edge.to_executorch().buffer, sources.sources
    except Exception as error:
        raise LoweringError(
            f"upstream cannot lower this program to Core ML specification "
            f"{target['specification_version']} in {target['compute_precision']}: "
            f"{type(error).__name__}: {error}"
        ) from error
