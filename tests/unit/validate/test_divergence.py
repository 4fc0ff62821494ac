"""Protects the parts of the divergence report: names, two runs side by side, units, sums."""

import math
from types import SimpleNamespace

import pytest
import torch
from pte_foundry.errors import InputError
from pte_foundry.mil.instructions import NamedType, Operation
from pte_foundry.models import operators
from pte_foundry.models.tensors import Call, Samples
from pte_foundry.validate.dataflow import Dataflow
from pte_foundry.validate.divergence import diverge, diverge_all
from pte_foundry.validate.dual_interpreter import DualInterpreter
from torch import nn


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True))

    def forward(self, x):
        return self.inner(self.inner(x) * 2) * 3


def exported(model, *inputs):
    return torch.export.export(model.eval(), inputs)


def test_calls_of_one_operator_are_told_apart():
    named = operators.labels(exported(Twice(), torch.zeros(1, 4)).graph)
    assert list(named.values()) == [
        "aten.linear.default @ inner.0",
        "aten.relu.default @ inner.1",
        "aten.mul.Tensor",
        "aten.linear.default @ inner.0 #2",
        "aten.relu.default @ inner.1 #2",
        "aten.mul.Tensor #2",
    ]


class Counting(nn.Module):
    """Writes into its buffer and, in place, into its input."""

    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(2))

    def forward(self, x):
        self.total.add_(x)
        return x.mul_(2) + self.total


def test_the_two_runs_share_nothing_that_is_written_to():
    module = exported(Counting(), torch.zeros(2)).module(check_guards=False)
    buffers = {name: value.clone() for name, value in module.named_buffers()}
    calls = []

    def substitute(node, reference, local):
        calls.append((node.name, reference.tolist(), local.tolist()))
        return local * 0 if node.name.startswith("mul") else local

    outputs = [
        DualInterpreter(module, buffers, substitute).run(torch.tensor([1.0, 2.0])).tolist()
        for _ in range(2)
    ]
    assert outputs == [[3.0, 6.0], [4.0, 8.0]]
    last = [values for name, *values in calls if name == calls[-1][0]]
    assert last == [[[3.0, 6.0], [1.0, 2.0]], [[4.0, 8.0], [2.0, 4.0]]]


class FakeProgram:
    """Operations in order: (op, result or None, names of its inputs, scale)."""

    def __init__(self, *operations, outputs=()):
        self._scales = {result: scale for _, result, _, scale in operations}
        self._operations = tuple(
            Operation(op, result, dict(zip(["input", "y"], [(n,) for n in given], strict=False)),
                      (NamedType(result, None),) if result else ())
            for op, result, given, _ in operations
        )  # fmt: skip
        self.functions = {
            "main": SimpleNamespace(outputs=[SimpleNamespace(name=n) for n in outputs])
        }

    def function(self, name):
        return self

    def operations(self, function):
        return self._operations

    def operation(self, name):
        return next(o for o in self._operations for v in o.outputs if v.name == name)

    def constants(self, name, function="main"):
        scale = self._scales[name]
        return {} if scale is None else {"scale": torch.tensor(scale)}


def test_sums_of_quantized_values_are_read_in_the_models_units():
    """As coremltools leaves them: both sides and the result over the scale of ``b``, 0.5."""
    flow = Dataflow(
        FakeProgram(
            ("conv", "a", ["x"], None),
            ("quantize", "aq", ["a"], 0.25),
            ("dequantize", "ad", ["aq"], 0.5),
            ("conv", "b", ["x"], None),
            ("quantize", "bq", ["b"], 0.5),
            ("dequantize", "bd", ["bq"], 1.0),
            ("add", "s", ["ad", "bd"], None),
            ("quantize", "sq", ["s"], 4.0),
            ("dequantize", "sd", ["sq"], 2.0),
            ("relu", "r", ["sd"], None),
            outputs=["r"],
        ),
        "main",
    )
    assert [flow.unit(name) for name in ("a", "ad", "bd", "s", "sd", "r")] == [1, 2, 2, 2, 1, 1]
    assert flow.with_quantization("a") == ["a", "aq", "ad"]
    assert flow.with_quantization("s") == ["s", "sq", "sd"]
    assert flow.with_quantization("r") == ["r"]


def test_operations_without_outputs_only_read():
    """``write_state`` has none, and reads the value without quantization."""
    flow = Dataflow(
        FakeProgram(
            ("add", "a", ["x"], None),
            ("quantize", "q", ["a"], 1.0),
            ("dequantize", "d", ["q"], 1.0),
            ("write_state", None, ["a"], None),
        ),
        "main",
    )
    assert flow.with_quantization("a") == ["a"]


def test_a_wrong_scale_elsewhere_is_no_unit():
    """Only sums are rescaled on purpose; before a convolution it is the error to be found."""
    flow = Dataflow(
        FakeProgram(
            ("quantize", "q", ["x"], 0.25),
            ("dequantize", "d", ["q"], 0.5),
            ("conv", "c", ["d"], None),
        ),
        "main",
    )
    assert flow.unit("d") == 1


def test_quantization_belongs_to_a_value_only_if_all_read_it_so():
    twice = ("quantize", "q", ["a"], 1.0), ("dequantize", "d", ["q"], 1.0)
    again = ("quantize", "qq", ["d"], 1.0), ("dequantize", "dd", ["qq"], 1.0)
    both = ("dequantize", "e", ["q"], 1.0)
    raw = ("conv", "c", ["a"], None)

    def names(*operations, outputs=()):
        return Dataflow(FakeProgram(*operations, outputs=outputs), "main").with_quantization("a")

    assert names(*twice, *again) == ["a", "q", "d", "qq", "dd"]
    assert names(*twice, both) == ["a", "q", "d"]
    assert names(*twice, raw) == ["a"]
    assert names(*twice, outputs=["a"]) == ["a"]
    assert names(twice[0]) == ["a"]


class Chain(nn.Module):
    def forward(self, x):
        return torch.relu(x * 2) + 1


class FakeDelegate:
    method, function = "forward", "main"

    def __init__(self, program, symbols):
        self.program = program
        self.debug_info = {"debugSymbolToHandles": symbols}


class FakePte:
    """An artifact of three operations that computes what it is told."""

    def __init__(self, *runs, handles=(1, 2, 3)):
        ops = [("mul", "m", ["x"], None), ("relu", "r", ["m"], None), ("add", "s", ["r"], None)]
        symbols = {f"{name}:{op}": [h] for (op, name, _, _), h in zip(ops, handles, strict=True)}
        self.delegates = [FakeDelegate(FakeProgram(*ops, outputs=["s"]), symbols)]
        self._runs = iter(runs)

    def delegates_of(self, method):
        return self.delegates

    def reset(self):
        """Has no states."""

    def run(self, sample, method, tap):
        for name, values in next(self._runs).items():
            tap(self.delegates[0], name, torch.tensor(values))


SOURCES = {"1": "aten.mul.Tensor", "2": "aten.relu.default", "3": "aten.add.Tensor"}
ONES = (torch.ones(2),)


def report(*runs, sources=SOURCES, samples=None):
    program = exported(Chain(), torch.zeros(2))
    return diverge(FakePte(*runs), program, sources, samples or [ONES] * len(runs))


def by_layer(made):
    return {layer["layer"][-1]: layer for layer in made["layers"]}


def test_carried_error_is_not_introduced_again():
    """2 became 2.2 in the product, and stayed it: only the product is to blame."""
    made = report({"m": [2.2, 2.0], "r": [2.2, 2.0], "s": [3.2, 3.0]})
    assert made["layers"][0]["layer"] == ["aten.mul.Tensor"]
    layers = by_layer(made)
    assert layers["aten.mul.Tensor"]["introduced_sqnr_db"] == pytest.approx(
        10 * math.log10(8 / 0.2**2), abs=1e-4
    )
    assert layers["aten.relu.default"]["introduced_sqnr_db"] == 200
    assert layers["aten.relu.default"]["accumulated_sqnr_db"] == pytest.approx(23.0, abs=0.1)
    assert layers["aten.add.Tensor"]["introduced_sqnr_db"] > 120  # 3.2 is no float
    assert layers["aten.mul.Tensor"]["program"] == pytest.approx(
        {"low": 2.0, "high": 2.2, "non_finite": 0}
    )


def test_noise_is_summed_over_samples_before_it_becomes_decibels():
    exact = {"m": [2.0, 2.0], "r": [2.0, 2.0], "s": [3.0, 3.0]}
    layers = by_layer(report(exact, exact | {"s": [3.0, 4.0]}))
    assert layers["aten.add.Tensor"]["introduced_sqnr_db"] == pytest.approx(10 * math.log10(36 / 1))


def test_an_infinity_is_blamed_on_where_it_arises_even_if_it_turns_into_nan():
    inf = math.inf
    made = report({"m": [2.0, 2.0], "r": [inf, 2.0], "s": [math.nan, 3.0]})
    first, *others = made["layers"]
    assert first["layer"] == ["aten.relu.default"]
    assert first["introduced_sqnr_db"] is None
    assert first["program"] == {"low": 2.0, "high": 2.0, "non_finite": 1}
    assert first["hazards"] == ["inf"]
    assert [other["introduced_sqnr_db"] for other in others] == [200, 200]
    assert by_layer(made)["aten.add.Tensor"]["accumulated_sqnr_db"] is None


def test_values_that_are_nothing_but_broken_have_no_range():
    layers = by_layer(report({"m": [math.nan, math.nan]}))
    assert layers["aten.mul.Tensor"]["program"] == {"low": None, "high": None, "non_finite": 2}


def test_what_core_ml_fused_is_one_layer():
    fused = {"1": SOURCES["1"], "3": SOURCES["3"]}
    made = report({"m": [2.0, 2.0], "r": [9.0, 9.0], "s": [3.0, 3.0]}, sources=fused)
    assert [layer["layer"] for layer in made["layers"]] == [
        ["aten.mul.Tensor"],
        ["aten.relu.default", "aten.add.Tensor"],
    ]
    assert made["uncovered"] == []


def test_what_has_no_value_is_uncovered():
    made = report({"m": [2.0, 2.0]}, sources={"1": SOURCES["1"]})
    assert made["uncovered"] == ["aten.relu.default", "aten.add.Tensor"]


def test_another_layout_is_not_compared():
    made = report({"m": [[2.0], [2.0]], "r": [2, 2], "s": [3.0, 3.0]})
    assert [layer["layer"][-1] for layer in made["layers"]] == ["aten.add.Tensor"]


def test_the_samples_stay_as_they_are():
    class InPlace(nn.Module):
        def forward(self, x):
            return x.mul_(2) + 1

    sample = (torch.ones(2),)
    diverge(FakePte({}), exported(InPlace(), torch.zeros(2)), SOURCES, [sample])
    assert sample[0].tolist() == [1, 1]


def test_there_must_be_samples():
    with pytest.raises(InputError, match="no samples"):
        diverge(FakePte(), exported(Chain(), torch.zeros(2)), SOURCES, [])


def test_a_method_that_no_recorded_call_has_does_not_run_on_whole_conversations():
    """The inputs of conversations are those of no method."""
    exact = {"m": [2.0, 2.0], "r": [2.0, 2.0], "s": [3.0, 3.0]}
    program = exported(Chain(), torch.zeros(2))
    names = {"inputs": ["x"], "outputs": ["y"]}
    reference = Samples(
        inputs=[(torch.ones(5), torch.ones(7))],
        outputs=[ONES],
        labels=None,
        calls=[Call(0, "forward", ONES, ONES)],
        methods={"forward": names, "later": names},
    )
    programs = {"forward": program, "later": program}
    made = diverge_all(FakePte(exact), programs, SOURCES, reference)
    assert {layer["method"] for layer in made["layers"]} == {"forward"}
    assert made["samples"] == 1
    assert made["uncovered"] == ["later: everything, for lack of a recorded call"]
    only = diverge_all(FakePte(), programs, SOURCES, reference, method="later")
    assert (only["layers"], only["samples"]) == ([], 0)
