"""Activations and elementwise operations: values at kinks, halves, zeros and in fp16."""

import math

import numpy as np
import pytest

from tests.mil.mil_cases import HALF, INT, SINGLE, Case, check

X = np.array([-2.0, -0.5, 0.0, 0.5, 3.0], SINGLE)


def f32(*values):
    return np.array(values, SINGLE)


def elementwise(function):
    """The expectation of a function of real numbers, from Python's own math in double."""
    return np.array([function(float(x)) for x in X], SINGLE)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def half(function, x):
    return np.array([function(float(v)) for v in x], HALF)


CHANNELS = np.array([[[-1.0], [-1.0]]], SINGLE)
H = np.array([-3.0, -0.1, 0.3, 7.0], HALF)

ACTIVATIONS = [
    Case("clamped_relu", {"x": X, "alpha": 0.5, "beta": 1.0}, f32(-1, -0.25, 0, 0.5, 1)),
    Case(
        "elu",
        {"x": X, "alpha": 2.0},
        elementwise(lambda x: x if x > 0 else 2 * math.expm1(x)),
        grade="close",
    ),
    Case(
        "gelu",
        {"x": X},
        elementwise(lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2)))),
        grade="close",
    ),
    Case(
        "gelu",
        {"x": X, "mode": "TANH_APPROXIMATION"},
        elementwise(
            lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        ),
        grade="close",
        id="tanh",
    ),
    Case(
        "gelu",
        {"x": X, "mode": "SIGMOID_APPROXIMATION"},
        elementwise(lambda x: x * sigmoid(1.702 * x)),
        grade="close",
        id="sigmoid",
    ),
    Case("leaky_relu", {"x": X, "alpha": 0.25}, f32(-0.5, -0.125, 0, 0.5, 3)),
    Case("linear_activation", {"x": X, "alpha": 2.0, "beta": -1.0}, f32(-5, -2, -1, 0, 5)),
    Case("prelu", {"x": CHANNELS, "alpha": f32(0.5, 0.5)}, np.array([[[-0.5], [-0.5]]], SINGLE)),
    Case("relu", {"x": X}, f32(0, 0, 0, 0.5, 3)),
    Case("relu6", {"x": f32(-1, 5.5, 7)}, f32(0, 5.5, 6)),
    Case(
        "scaled_tanh",
        {"x": X, "alpha": 2.0, "beta": 0.5},
        elementwise(lambda x: 2 * math.tanh(x / 2)),
        grade="close",
    ),
    Case("sigmoid", {"x": X}, elementwise(sigmoid), grade="close"),
    Case("sigmoid", {"x": H}, half(sigmoid, H), grade="one_ulp", id="fp16"),
    Case("sigmoid_hard", {"x": X, "alpha": 0.5, "beta": 0.5}, f32(0, 0.25, 0.5, 0.75, 1)),
    Case("silu", {"x": X}, elementwise(lambda x: x * sigmoid(x)), grade="close"),
    Case(
        "softplus", {"x": f32(-100, 0, 100)}, f32(math.exp(-100), math.log(2), 100), grade="close"
    ),
    Case(
        "softplus_parametric",
        {"x": CHANNELS, "alpha": f32(1, 2), "beta": f32(1, -1)},
        np.array([[[math.log1p(math.exp(-1))], [2 * math.log1p(math.exp(1))]]], SINGLE),
        grade="close",
    ),
    Case(
        "softmax",
        {"x": np.array([[0, math.log(3)], [1000, 1000]], SINGLE)},
        np.array([[0.25, 0.75], [0.5, 0.5]], SINGLE),
        grade="close",
    ),
    Case(
        "softmax",
        {"x": np.array([[0, 0], [0, math.log(3)]], SINGLE), "axis": 0},
        np.array([[0.5, 0.25], [0.5, 0.75]], SINGLE),
        grade="close",
        id="axis0",
    ),
    Case("softsign", {"x": X}, f32(-2 / 3, -1 / 3, 0, 1 / 3, 0.75), grade="one_ulp"),
    Case("thresholded_relu", {"x": X, "alpha": 0.5}, f32(0, 0, 0, 0.5, 3)),
]

UNIT = np.array([-0.9, 0.0, 0.3], SINGLE)
FUNCTIONS = [
    ("acos", math.acos), ("asin", math.asin), ("atan", math.atan), ("atanh", math.atanh),
    ("cos", math.cos), ("cosh", math.cosh), ("erf", math.erf), ("exp", math.exp),
    ("exp2", lambda x: 2**x), ("sin", math.sin), ("sinh", math.sinh), ("tan", math.tan),
    ("tanh", math.tanh), ("ceil", math.ceil), ("floor", math.floor), ("square", lambda x: x * x),
]  # fmt: skip

UNARY = [
    *(
        Case(op, {"x": UNIT}, np.array([f(float(x)) for x in UNIT], SINGLE), grade="close")
        for op, f in FUNCTIONS
    ),
    Case("exp", {"x": H}, half(math.exp, H), grade="exact", id="fp16"),
    Case("exp", {"x": np.array([12.0], HALF)}, np.array([np.inf], HALF), id="fp16-overflow"),
    Case("abs", {"x": np.array([-3, 0, 3], INT)}, np.array([3, 0, 3], INT)),
    Case("exp2", {"x": np.array([0, 3], INT)}, np.array([1, 8], INT), id="int"),
    Case("sign", {"x": f32(-2, 0, 5)}, f32(-1, 0, 1)),
    Case("sqrt", {"x": f32(0, 4, 2)}, f32(0, 2, math.sqrt(2)), grade="one_ulp"),
    Case("clip", {"x": X, "alpha": -1.0, "beta": 0.25}, f32(-1, -0.5, 0, 0.25, 0.25)),
    Case("round", {"x": f32(-1.5, -0.5, 0.5, 1.5, 2.5)}, f32(-2, -0.0, 0, 2, 2)),
    Case("inverse", {"x": f32(0, 0.5), "epsilon": 0.25}, f32(4, 1 / 0.75), grade="one_ulp"),
    Case("inverse", {"x": np.array([0.5], HALF)}, np.array([1 / 0.5001], HALF), id="fp16"),
    Case("log", {"x": f32(1, 0), "epsilon": 1.0}, f32(math.log(2), 0), grade="one_ulp"),
    Case("log", {"x": f32(math.e)}, f32(1), grade="close", id="default"),
    Case("rsqrt", {"x": f32(4, 0), "epsilon": 0.25}, f32(1 / math.sqrt(4.25), 2), grade="one_ulp"),
    Case(
        "rsqrt",
        {"x": np.array([6e-8], HALF), "epsilon": HALF(0)},
        np.array([1 / math.sqrt(HALF(6e-8))], HALF),
        id="fp16-subnormal",
    ),
    Case("threshold", {"x": X, "alpha": 0.25}, f32(0.25, 0.25, 0.25, 0.5, 3)),
    Case("logical_not", {"x": np.array([True, False])}, np.array([False, True])),
    Case("cast", {"x": f32(-1.7, 1.7), "dtype": "int32"}, np.array([-1, 1], INT)),
    Case("cast", {"x": f32(0, 0.5), "dtype": "bool"}, np.array([False, True]), id="bool"),
    Case(
        "cast", {"x": f32(70000, 2049), "dtype": "fp16"}, np.array([np.inf, 2048], HALF), id="fp16"
    ),
    Case("cast", {"x": np.array([True, False]), "dtype": "fp32"}, f32(1, 0), id="from-bool"),
    Case(
        "cast",
        {"x": np.array([300], INT), "dtype": "uint16"},
        np.array([300], np.uint16),
        opset="iOS17",
    ),
]

A = np.array([[7, -7], [7, -7]], INT)
B = np.array([2, -2], INT)
BINARY = [
    Case("add", {"x": f32(1, 2), "y": np.array([[1.0], [2.0]], SINGLE)},
         np.array([[2, 3], [3, 4]], SINGLE), id="broadcast"),
    Case("add", {"x": np.array([2048], HALF), "y": np.array([1], HALF)},
         np.array([2048], HALF), id="fp16-rounds"),
    Case("sub", {"x": A, "y": B}, A - B),
    Case("mul", {"x": np.array([300], HALF), "y": np.array([300], HALF)},
         np.array([np.inf], HALF), id="fp16-overflow"),
    Case("floor_div", {"x": A, "y": B}, np.array([[3, 3], [3, 3]], INT)),
    Case("floor_div", {"x": f32(-7, 7), "y": f32(2, 2)}, f32(-4, 3), id="float"),
    Case("mod", {"x": np.array([7, -7, 7, -7], INT), "y": np.array([3, 3, -3, -3], INT)},
         np.array([1, 2, -2, -1], INT)),
    Case("mod", {"x": f32(-5.5), "y": f32(2)}, f32(0.5), id="float"),
    Case("pow", {"x": f32(2, -2, 4), "y": f32(3, 3, 0.5)}, f32(8, -8, 2)),
    Case("pow", {"x": np.array([653], HALF), "y": np.array([2], HALF)},
         np.array([np.inf], HALF), id="fp16-overflow"),
    Case("real_div", {"x": f32(1, -1), "y": f32(3, 0)}, f32(1 / 3, -np.inf), grade="one_ulp",
         oracle="numpy warns"),
    Case("real_div", {"x": np.array([7, -7], INT), "y": np.array([2, 2], INT)},
         np.array([3, -3], INT), id="int", oracle="gives floats where int32 is declared"),
    Case("maximum", {"x": X, "y": f32(0)}, f32(0, 0, 0, 0.5, 3)),
    Case("minimum", {"x": X, "y": f32(0)}, f32(-2, -0.5, 0, 0, 0)),
    *(Case(op, {"x": np.array([1, 2, 3], INT), "y": np.array([2, 2, 2], INT)}, np.array(want))
      for op, want in [
          ("equal", [False, True, False]), ("not_equal", [True, False, True]),
          ("greater", [False, False, True]), ("greater_equal", [False, True, True]),
          ("less", [True, False, False]), ("less_equal", [True, True, False])]),
    *(Case(op, {"x": np.array([True, True, False, False]), "y": np.array([True, False] * 2)},
           np.array(want))
      for op, want in [
          ("logical_and", [True, False, False, False]), ("logical_or", [True, True, True, False]),
          ("logical_xor", [False, True, True, False])]),
    Case("select", {"cond": np.array([True, False]), "a": f32(1, 2), "b": f32(3, 4)}, f32(1, 4)),
    Case("select", {"cond": np.array([[True], [False]]), "a": f32(1, 2), "b": f32(3)},
         np.array([[1, 2], [3, 3]], SINGLE), id="broadcast"),
]  # fmt: skip


@pytest.mark.parametrize("case", [*ACTIVATIONS, *UNARY, *BINARY], ids=str)
def test_elementwise(case):
    check(case)
