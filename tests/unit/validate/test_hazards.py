"""Protects the search for broken numbers: found where they start, masks left in peace."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pte_foundry.validate.hazards import Hazards, torch_sources

HALF = torch.float16


class FakeProgram:
    """Operations by the value they produce, with the values they are given."""

    def __init__(self, **operations: tuple[str, dict[str, tuple[str, ...]]]) -> None:
        self._operations = operations

    def constants(self, name):
        return {}

    def operation(self, value_name: str) -> SimpleNamespace:
        op, inputs = self._operations[value_name]
        return SimpleNamespace(op=op, name=f"{value_name}_op", inputs=inputs)


PROGRAM = FakeProgram(
    scores=("matmul", {"x": ("query",), "y": ("key",)}),
    masked=("add", {"x": ("scores",), "y": ("mask",)}),
    scaled=("mul", {"x": ("masked",), "y": ()}),
    shares=("softmax", {"x": ("scaled",)}),
    logs=("log", {"x": ("shares",)}),
)


def found(*runs: dict[str, list[float]], dtype: torch.dtype = HALF) -> list[tuple]:
    hazards = Hazards()
    for run in runs:
        for name, values in run.items():
            hazards.tap(name, torch.tensor(values).to(dtype))
    return [(h["kind"], h["op"], h["name"], h["count"]) for h in hazards.findings(PROGRAM)]


def test_finite_values_are_no_hazard():
    assert found({"scores": [1, -2], "masked": [1, -3e4], "scaled": [0, 0]}) == []


def test_overflow_is_reported_once_where_it_starts():
    run = {"scores": [1e5, 1], "masked": [1e5, 1], "scaled": [1e5, 1]}
    assert found(run) == [("fp16_overflow", "matmul", "scores", 1)]


def test_worse_than_its_inputs_is_a_new_hazard():
    """inf - inf in a softmax is not the overflow before it."""
    run = {"scores": [math.inf, 1], "masked": [math.inf, 1], "shares": [math.nan, 0]}
    run = {**run, "scaled": [math.inf, 1]}
    ordered = {name: run[name] for name in ("scores", "masked", "scaled", "shares")}
    assert found(ordered) == [
        ("nan", "softmax", "shares", 1),
        ("fp16_overflow", "matmul", "scores", 1),
    ]


def test_counts_are_runs_and_runs_are_told_apart():
    """In the second run the overflow starts one operation later than in the first."""
    fine, broken = [1.0, 2.0], [math.inf, 2.0]
    assert found(
        {"scores": broken, "masked": broken},
        {"scores": fine, "masked": broken},
        {"scores": fine, "masked": broken},
    ) == [("fp16_overflow", "add", "masked", 2), ("fp16_overflow", "matmul", "scores", 1)]


@pytest.mark.parametrize("low", [-math.inf, -65504.0])
def test_masks_are_meant(low):
    run = {"scores": [1, 2], "masked": [low, 2], "scaled": [low, 2], "shares": [0, 1]}
    assert found(run) == []


def test_a_positive_overflow_is_never_a_mask():
    assert found({"scores": [1, 2], "masked": [math.inf, -math.inf]}) == [
        ("fp16_overflow", "add", "masked", 1)
    ]


def test_only_constants_make_masks():
    """Both operands computed: then -inf is an overflow."""
    hazards = Hazards()
    for name, value in {"scores": [1.0], "mask": [2.0], "masked": [-math.inf]}.items():
        hazards.tap(name, torch.tensor(value, dtype=HALF))
    assert [h["kind"] for h in hazards.findings(PROGRAM)] == ["fp16_overflow"]


def test_poles_and_fp32_are_inf():
    assert found({"shares": [0.0], "logs": [-math.inf]}) == [("inf", "log", "logs", 1)]
    assert found({"scores": [math.inf]}, dtype=torch.float32) == [("inf", "matmul", "scores", 1)]


def test_near_overflow_only_in_fp16():
    run = {"scores": [40000.0], "masked": [40000.0]}
    assert found(run) == [("fp16_near_overflow", "matmul", "scores", 1)]
    assert found(run, dtype=torch.float32) == []


def test_values_of_loops_count_against_all_runs_of_what_is_outside():
    hazards = Hazards()
    hazards.tap("scores", torch.tensor([math.inf], dtype=HALF))
    for _ in range(3):
        hazards.tap("masked", torch.tensor([math.inf], dtype=HALF))
    assert [h["name"] for h in hazards.findings(PROGRAM)] == ["scores"]


def test_integers_and_empty_values_are_passed_over():
    hazards = Hazards()
    hazards.tap("scores", torch.tensor([2**31 - 1]))
    hazards.tap("masked", torch.empty(0))
    hazards.tap("scaled", torch.tensor([True]))
    assert hazards.findings(PROGRAM) == []


DEBUG_INFO = {
    "versionInfo": "9.0",
    "debugSymbolToOperationPath": {},
    "debugSymbolToHandles": {
        "x_to_fp16:cast": [2],
        "conv_0_cast_fp16:conv": [1, 2, 1],
        "odd:name:relu": [3],
        "unknown:add": [9],
    },
}


def test_torch_sources():
    handles = {"1": "aten.conv2d @ features.0", "2": "aten.batch_norm @ features.1", "3": "relu @ "}
    sources = torch_sources(DEBUG_INFO, handles)
    assert sources == {
        "x_to_fp16": "aten.batch_norm @ features.1",
        "conv_0_cast_fp16": "aten.conv2d @ features.0 + aten.batch_norm @ features.1",
        "odd:name": "relu @ ",
    }
    assert torch_sources({}, handles) == {}
    hazards = Hazards()
    hazards.tap("scores", torch.tensor([math.nan]))
    (finding,) = hazards.findings(PROGRAM, {"scores": "aten.matmul @ layers.0"})
    assert finding["torch_source"] == "aten.matmul @ layers.0"


@pytest.fixture(scope="module")
def causal_attention(tmp_path_factory):
    """Scores, a constant mask of -inf, softmax: in fp16, as Core ML would get it."""
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types
    from pte_foundry.mil import Program

    @mb.program([mb.TensorSpec((1, 2, 2), types.fp16)], opset_version=ct.target.iOS17)
    def program(x):
        mask = np.triu(np.full((2, 2), -np.inf, np.float16), 1)
        squared = mb.mul(x=x, y=x, name="squared")
        return mb.softmax(x=mb.add(x=squared, y=mask, name="masked"), name="shares")

    package = tmp_path_factory.mktemp("hazards") / "attention.mlpackage"
    model = ct.convert(
        program,
        minimum_deployment_target=ct.target.iOS17,
        skip_model_load=True,
        pass_pipeline=ct.PassPipeline.EMPTY,
    )
    model.save(str(package))
    return Program.load(package)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (10.0, []),
        (200.0, [("fp16_near_overflow", "mul", "squared")]),
        (300.0, [("nan", "add", "masked"), ("fp16_overflow", "mul", "squared")]),
    ],
)
def test_a_real_program(causal_attention, value, expected):
    """What the collector asks of a program and its taps is what ``pte_foundry.mil`` gives."""
    hazards = Hazards()
    causal_attention.run({"x": np.full((1, 2, 2), value, np.float16)}, tap=hazards.tap)
    findings = hazards.findings(causal_attention)
    assert [(h["kind"], h["op"], h["name"]) for h in findings] == expected
