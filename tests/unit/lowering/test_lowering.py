"""Tests the compile specs of a target, debug handles, errors, memory, and the bytes."""

import gc
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from coremltools.converters.mil import Builder
from executorch.backends.apple.coreml.partition import coreml_partitioner
from executorch.exir.lowered_backend_module import LoweredBackendModule
from pte_foundry.formats.inspect_pte import describe
from pte_foundry.job import deterministic_env
from pte_foundry.lowering import edge_program
from pte_foundry.lowering.coreml import LoweringError, compile_specs, lower
from pte_foundry.lowering.edge_program import EdgeError
from pte_foundry.upstream import executorch_caches, torch_caches

ROOT = Path(__file__).resolve().parents[3]
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
    edge = edge_program.make(program, [])
    assert describe(lower(edge, TARGET)).delegated_fraction == 1.0
    expected = ["aten.linear.default @ inner", "aten.relu.default"]
    assert sorted(edge.debug_handles.values()) == expected


def test_no_view_is_preserved_that_could_be_decomposed():
    """So that they can be decomposed at once (``edge_program.make``)."""
    table = torch.export.default_decompositions()
    views = [op for op in table if op.is_view]
    assert torch.ops.aten.transpose.int in views
    assert [op for op in views if not coreml_partitioner._is_view_op(op)] == []


@pytest.mark.parametrize("cache", [torch_caches, executorch_caches], ids=["torch", "executorch"])
def test_lowered_programs_are_let_go(program, monkeypatch, cache):
    """They refer to the weights and the delegate's bytes, which are about to be copied."""

    def lowered():
        gc.collect()
        return [o for o in gc.get_objects() if isinstance(o, LoweredBackendModule)]

    def kept():
        return [o for o in lowered() if not any(o is other for other in of_other_tests)]

    of_other_tests = lowered()
    clear = cache.clear
    monkeypatch.setattr(cache, "clear", lambda: None)
    lower(edge_program.make(program, []), TARGET)
    assert kept()  # else this cache lets go by itself, and its file in `upstream` can go
    clear()
    assert not kept()


def test_what_upstream_cannot_lower_is_our_error_with_its_reason(program, monkeypatch):
    # coremltools resets its numbering of names after a conversion, but not after a failed one.
    monkeypatch.setattr(Builder, "name_count", defaultdict(int))
    target = TARGET | {"pass_pipeline": ["common::no_such_pass"]}
    with pytest.raises(LoweringError, match="no_such_pass"):
        lower(edge_program.make(program, []), target)


def test_what_upstream_cannot_decompose_is_our_error_with_its_reason(program, monkeypatch):
    def fails(*_, **__):
        raise KeyError("no such operator")

    monkeypatch.setattr(edge_program, "to_edge", fails)
    with pytest.raises(EdgeError, match="KeyError: 'no such operator'"):
        edge_program.make(program, [])


@pytest.fixture(scope="module")
def lowered_twice() -> dict[str, bool]:
    """In the environment of the rules: coremltools names values in the order of a set."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "scripts")])
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.lowering.lowered_twice"],
        cwd=ROOT,
        env=os.environ | deterministic_env.ENVIRONMENT | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("name", ["attention", "convolutions", "choice", "dynamic"])
def test_two_halves_and_a_file_give_the_bytes_of_upstreams_one_call(lowered_twice, name, skips):
    """The edge program is made, saved, read and lowered; upstream does it at once."""
    assert lowered_twice[f"{name} {skips}"]
