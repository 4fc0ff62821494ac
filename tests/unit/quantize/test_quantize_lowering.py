"""Tests that every scheme's program is delegated to Core ML as a whole, on the intended OS."""

import io

import pytest
import torch
from pte_foundry.quantize import pt2e
from pte_foundry.quantize.weight_only import quantize
from torch import nn

BOTH = ["torch.nn.Embedding", "torch.nn.Linear"]
ALL = {"types": BOTH, "names": ["*"], "exclude": []}
PER_AXIS = ALL | {"scheme": "affine", "granularity": {"axis": 0}}
CODEBOOK = ALL | {"scheme": "codebook"}
STEPS = {
    "int8_per_axis": ("iOS16", [PER_AXIS | {"weight_dtype": "int8"}]),
    "int4_group32": (
        "iOS18",
        [
            PER_AXIS | {"weight_dtype": "int8", "types": BOTH[:1]},
            PER_AXIS
            | {"weight_dtype": "int4", "granularity": {"group_size": 32}, "types": BOTH[1:]},
        ],
    ),
    "int4_per_axis": ("iOS18", [PER_AXIS | {"weight_dtype": "int4"}]),
    "int4_asymmetric": (
        "iOS18",
        [PER_AXIS | {"weight_dtype": "int4", "mapping_type": "ASYMMETRIC"}],
    ),
    "lut3_group16": ("iOS18", [CODEBOOK | {"dtype": "uint3", "block_size": [16, -1]}]),
    "lut4_columns": ("iOS18", [CODEBOOK | {"dtype": "uint4", "block_size": [-1, 16]}]),
    **{
        f"lut{bits}": ("iOS18", [CODEBOOK | {"dtype": f"uint{bits}", "block_size": [-1, -1]}])
        for bits in range(1, 9)
    },
}
SETTINGS = {
    "int8_static": {},
    "int8_affine": {"global_config": {"quantization_scheme": "affine"}},
    "int8_weight_only": {"global_config": {"activation_dtype": "float32"}},
    "int8_mixed": {
        "global_config": {},
        "module_type_configs": {"torch.nn.Conv2d": {"activation_dtype": "float32"}},
        "module_name_configs": {"head": None},
    },
}


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.inner, self.head = (
            nn.Embedding(64, 64),
            nn.Linear(64, 96),
            nn.Linear(96, 32),
        )

    def forward(self, tokens):
        return self.head(torch.relu(self.inner(self.embed(tokens))))


class Image(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU6(inplace=True),
            nn.Conv2d(8, 8, 3, groups=8),
            nn.Hardswish(),
        )
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 4)

    def forward(self, x):
        x = self.body(x)
        return self.head(torch.flatten(self.pool(x + x * 2), 1))


def check_delegated(program, minimum):
    """One delegate call and nothing else, from the program as a file has it."""
    import coremltools as ct
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner
    from executorch.exir import to_edge_transform_and_lower

    buffer, again = io.BytesIO(), io.BytesIO()
    torch.export.save(program, buffer)
    program = torch.export.load(io.BytesIO(buffer.getvalue()))
    torch.export.save(program, again)
    assert buffer.getvalue() == again.getvalue()
    specs = CoreMLBackend.generate_compile_specs(
        minimum_deployment_target=getattr(ct.target, minimum),
        compute_precision=ct.precision.FLOAT16,
    )
    partitioner = CoreMLPartitioner(compile_specs=specs)
    lowered = to_edge_transform_and_lower(program, partitioner=[partitioner]).to_executorch()
    plan = lowered.executorch_program.execution_plan[0]
    assert [delegate.id for delegate in plan.delegates] == ["CoreMLBackend"]
    assert list(plan.operators) == []
    assert [len(chain.instructions) for chain in plan.chains] == [1]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", STEPS)
def test_steps_are_delegated_whole(recipe):
    minimum, steps = STEPS[recipe]
    tokens = (torch.arange(8).reshape(1, 8),)
    check_delegated(torch.export.export(quantize(Text().eval(), steps), tokens), minimum)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", SETTINGS)
def test_pt2e_is_delegated_whole(recipe):
    inputs = (torch.randn(1, 3, 16, 16),)
    program = torch.export.export(Image().eval(), inputs)
    statistics = pt2e.calibrate(program, SETTINGS[recipe], [inputs])
    converted = pt2e.convert(program, SETTINGS[recipe], statistics, inputs)
    check_delegated(converted, "iOS17")
