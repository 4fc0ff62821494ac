"""Protects what a target asks of Core ML: every compile spec, and the source of every operator."""

import pytest
import torch

from scripts.lowering import LoweringError, compile_specs, lower
from scripts.pte.inspect import describe

TARGET = {
    "specification_version": 9,
    "compute_precision": "float16",
    "model_type": "model",
    "op_linear_quantizer_config": None,
    "pass_pipeline": None,
    "enumerated_shapes": None,
    "multimethod_weight_sharing_strategy": None,
    "partitioner": {
        "skip_ops_for_coreml_delegation": [],
        "take_over_mutable_buffer": True,
        "take_over_constant_data": True,
        "lower_full_graph": False,
    },
}


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(4, 4)

    def forward(self, x):
        return torch.relu(self.inner(x))


@pytest.fixture
def program():
    return torch.export.export(Net().eval(), (torch.zeros(1, 4),))


def test_every_spec_of_a_target_is_passed_on(program):
    target = TARGET | {
        "specification_version": 8,
        "compute_precision": "float32",
        "pass_pipeline": ["common::dead_code_elimination"],
        "op_linear_quantizer_config": {"mode": "linear_symmetric"},
        "multimethod_weight_sharing_strategy": "disabled",
    }
    specs = {spec.key: bytes(spec.value).decode() for spec in compile_specs(target, program)}
    assert specs == {
        "compute_units": "all",
        "min_deployment_target": "8",
        "model_compute_precision": "float32",
        "model_type": "model",
        "pass_pipeline": '["common::dead_code_elimination"]',
        "op_linear_quantizer_config": '{"mode": "linear_symmetric"}',
        "multimethod_weight_sharing_strategy": "disabled",
    }


def test_handles_name_the_operator_and_its_module(program):
    lowered, sources = lower(program, TARGET)
    assert describe(lowered).delegated_fraction == 1.0
    assert sorted(sources.values()) == ["aten.linear.default @ inner", "aten.relu.default"]


def test_what_upstream_cannot_lower_is_our_error_with_its_reason(program):
    target = TARGET | {"pass_pipeline": ["common::no_such_pass"]}
    with pytest.raises(LoweringError, match="no_such_pass"):
        lower(program, target)
