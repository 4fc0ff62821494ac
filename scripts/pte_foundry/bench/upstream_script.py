"""Builds one artifact with upstream's functions alone: a script after ExecuTorch's documentation.

``python -m pte_foundry.bench.upstream_script JOB``: a :class:`Job` as JSON. torch.export, torchao,
``CoreMLQuantizer`` and ``to_edge_transform_and_lower`` run as they are, with their defaults
(executorch, docs/source/backends/coreml). The model, its weights and its samples come from the
model's own module, as in our rules.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

    from pte_foundry.models.module import ModelModule


@dataclass(frozen=True)
class Job:
    """The input of a script.

    Attributes:
        module: the model's file.
        weights: the file with its weights.
        data: its data files by name.
        options: its options.
        recipe, target: their slices of the configuration.
        compute_units: those of the target.
        output: the path of the artifact.
    """

    module: str
    weights: str
    data: dict[str, str]
    options: dict[str, Any]
    recipe: dict[str, Any]
    target: dict[str, Any]
    compute_units: str
    output: str

    def command(self) -> list[str]:
        """Returns the command line of the script."""
        return [sys.executable, "-m", __name__, json.dumps(asdict(self))]


def quantized(model: ModelModule, recipe: dict[str, Any]) -> ExportedProgram:
    """Returns the program of a model under a recipe."""
    import torch

    module, inputs = model.build(), model.example_inputs()
    shapes = model.dynamic_shapes()
    if recipe["scheme"] == "none":
        return torch.export.export(module, inputs, dynamic_shapes=shapes)
    if recipe["scheme"] == "quantize":
        _replace_weights(module, recipe["steps"])
        return torch.export.export(module, inputs, dynamic_shapes=shapes)

    from coremltools.optimize.torch.quantization import LinearQuantizerConfig
    from executorch.backends.apple.coreml.quantizer import CoreMLQuantizer
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    keys = ("global_config", "module_type_configs", "module_name_configs")
    config = LinearQuantizerConfig.from_dict({key: recipe[key] for key in keys if recipe[key]})
    exported = torch.export.export(module, inputs, dynamic_shapes=shapes).module()
    prepared = prepare_pt2e(exported, CoreMLQuantizer(config))
    for sample in model.calibration(limit=recipe["calibration_samples"]):
        prepared(*sample)
    return torch.export.export(convert_pt2e(prepared), inputs, dynamic_shapes=shapes)


def _replace_weights(module: torch.nn.Module, steps: list[dict[str, Any]]) -> None:
    import torch
    from torchao.prototype.quantization.codebook_coreml import CodebookWeightOnlyConfig
    from torchao.quantization import IntxWeightOnlyConfig, PerAxis, PerGroup, quantize_

    for step in steps:
        types = tuple(getattr(torch.nn, name.rpartition(".")[2]) for name in step["types"])
        if step["scheme"] == "codebook":
            dtype = getattr(torch, step["dtype"])
            config = CodebookWeightOnlyConfig(dtype=dtype, block_size=step["block_size"])
        else:
            granularity = step["granularity"]
            per = PerAxis(0) if "axis" in granularity else PerGroup(granularity["group_size"])
            config = IntxWeightOnlyConfig(getattr(torch, step["weight_dtype"]), per)
        quantize_(module, config, lambda child, _, types=types: isinstance(child, types))


def main(job: Job) -> None:
    """Writes the artifact."""
    import coremltools as ct
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    from pte_foundry.models.module import ModelModule

    data = {name: Path(path) for name, path in job.data.items()}
    model = ModelModule.load(Path(job.module), Path(job.weights), data, job.options)
    specs = CoreMLBackend.generate_compile_specs(
        compute_unit=ct.ComputeUnit[job.compute_units.upper()],
        minimum_deployment_target=ct.target(job.target["specification_version"]),
        compute_precision=ct.precision(job.target["compute_precision"]),
        model_type=CoreMLBackend.MODEL_TYPE.MODEL,
    )
    partitioner = CoreMLPartitioner(
        compile_specs=specs,
        take_over_mutable_buffer=job.target["partitioner"]["take_over_mutable_buffer"],
    )
    edge = to_edge_transform_and_lower(
        quantized(model, job.recipe),
        partitioner=[partitioner],
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
    )
    output = Path(job.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(edge.to_executorch().buffer)


if __name__ == "__main__":
    main(Job(**json.loads(sys.argv[1])))
