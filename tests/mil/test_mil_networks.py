"""Convolution, pooling, normalization, products, attention, reductions: padding and rounding."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mil.mil_cases import HALF, INT, SINGLE, Case, check, compute


def ints(*values):
    return np.array(values, INT)


def ones(*shape):
    return np.ones(shape, SINGLE)


def row(*values):
    """One sample with one channel."""
    return np.array([[values]], SINGLE)


RAMP = row(1, 2, 3, 4)
SUM2 = ones(1, 1, 2)

CONV = [
    Case("conv", {"x": RAMP, "weight": SUM2}, row(3, 5, 7)),
    Case(
        "conv",
        {"x": RAMP, "weight": SUM2, "bias": np.array([10], SINGLE), "strides": ints(2)},
        row(13, 17),
        id="bias-stride",
    ),
    Case("conv", {"x": RAMP, "weight": SUM2, "dilations": ints(2)}, row(4, 6), id="dilation"),
    Case(
        "conv",
        {"x": RAMP, "weight": SUM2, "pad_type": "custom", "pad": ints(0, 1)},
        row(3, 5, 7, 4),
        id="custom",
    ),
    # What cannot be halved goes behind ...
    Case("conv", {"x": RAMP, "weight": SUM2, "pad_type": "same"}, row(3, 5, 7, 4), id="same"),
    # ... and in front with same_lower.
    Case(
        "conv",
        {"x": RAMP, "weight": SUM2, "pad_type": "same_lower"},
        row(1, 3, 5, 7),
        opset="iOS16",
        id="same_lower",
    ),
    # ceil(4 / 3) = 2 outputs need one more element than there is.
    Case(
        "conv",
        {"x": RAMP, "weight": SUM2, "strides": ints(3), "pad_type": "same"},
        row(3, 4),
        id="same-stride",
    ),
    Case(
        "conv",
        {
            "x": np.array([[[1, 2], [3, 4]]], SINGLE),
            "groups": 2,
            "weight": np.array([[[1.0]], [[10.0]]], SINGLE),
        },
        np.array([[[1, 2], [30, 40]]], SINGLE),
        id="depthwise",
    ),
    Case(
        "conv",
        {"x": ones(1, 1, 2, 3), "weight": ones(1, 1, 2, 2), "pad_type": "same"},
        np.array([[[[4, 4, 2], [2, 2, 1]]]], SINGLE),
        id="2d",
    ),
    Case(
        "conv",
        {"x": ones(1, 1, 2, 2, 2), "weight": ones(1, 1, 2, 2, 2)},
        np.array([[[[[8]]]]], SINGLE),
        id="3d",
    ),
    # 4096 * 1 in steps of one: an fp16 sum would stick at 2048.
    Case(
        "conv",
        {"x": np.ones((1, 4096, 1), HALF), "weight": np.ones((1, 4096, 1), HALF)},
        np.array([[[4096]]], HALF),
        id="fp16-accumulates-in-fp32",
    ),
    Case(
        "conv_transpose",
        {"x": row(1, 2), "weight": row(1, 10), "strides": ints(2)},
        row(1, 10, 2, 20),
    ),
    Case(
        "conv_transpose",
        {"x": row(1, 2), "weight": row(1, 10, 100), "pad_type": "custom", "pad": ints(1, 0)},
        row(12, 120, 200),
        id="custom",
    ),
    Case(
        "conv_transpose",
        {"x": row(1, 2), "weight": row(1, 10, 100), "strides": ints(2), "pad_type": "same"},
        row(1, 10, 102, 20),
        id="same",
    ),
    Case(
        "conv_transpose",
        {
            "x": row(1, 2),
            "weight": row(1),
            "strides": ints(2),
            "bias": np.array([5], SINGLE),
            "output_shape": ints(1, 1, 4),
        },
        row(6, 5, 7, 5),
        id="bias-where-nothing-reaches",
    ),
]

POOL = [
    Case(
        "max_pool",
        {"x": -RAMP, "kernel_sizes": ints(2), "pad_type": "same"},
        row(-1, -2, -3, -4),
        id="padding-is-not-zero",
    ),
    Case(
        "max_pool",
        {
            "x": row(1, 2, 3, 4, 5),
            "kernel_sizes": ints(2),
            "strides": ints(2),
            "pad_type": "valid",
            "ceil_mode": True,
        },
        row(2, 4, 5),
        id="ceil",
    ),
    Case(
        "avg_pool",
        {"x": RAMP, "kernel_sizes": ints(2), "strides": ints(2), "pad_type": "valid"},
        row(1.5, 3.5),
    ),
    Case(
        "avg_pool",
        {
            "x": RAMP,
            "kernel_sizes": ints(2),
            "strides": ints(2),
            "pad_type": "custom",
            "pad": ints(1, 1),
        },
        row(0.5, 2.5, 2),
        id="padding-counts",
    ),
    Case(
        "avg_pool",
        {
            "x": RAMP,
            "kernel_sizes": ints(2),
            "strides": ints(2),
            "pad_type": "custom",
            "pad": ints(1, 1),
            "exclude_padding_from_average": True,
        },
        row(1, 2.5, 4),
        id="padding-excluded",
    ),
    Case(
        "avg_pool",
        {
            "x": row(1, 2, 3),
            "kernel_sizes": ints(2),
            "strides": ints(2),
            "pad_type": "valid",
            "ceil_mode": True,
        },
        row(1.5, 1.5),
        id="ceil",
    ),
    Case("l2_pool", {"x": row(3, 4, 0), "kernel_sizes": ints(2), "pad_type": "valid"}, row(5, 4)),
]

V = np.array([[1, 2, 3], [4, 5, 9]], SINGLE)
HEADS = np.arange(24, dtype=SINGLE).reshape(1, 2, 2, 2, 3)
GROUPS = np.arange(30, dtype=SINGLE).reshape(1, 2, 1, 5, 3)
NORM = [
    Case(
        "batch_norm",
        {
            "x": np.array([[[1.0], [2.0]]], SINGLE),
            "mean": np.array([0, 1], SINGLE),
            "variance": np.array([1, 4], SINGLE),
            "gamma": np.array([1, 2], SINGLE),
            "beta": np.array([0, 5], SINGLE),
            "epsilon": 0.0,
        },
        np.array([[[1.0], [6.0]]], SINGLE),
    ),
    Case("instance_norm", {"x": row(1, 3), "epsilon": 0.0}, row(-1, 1)),
    Case(
        "l2_norm",
        {"x": np.array([[[3.0, 4.0]]], SINGLE), "epsilon": 0.0},
        np.array([[[0.6, 0.8]]], SINGLE),
        grade="one_ulp",
    ),
    Case(
        "layer_norm",
        {
            "x": V,
            "axes": ints(-1),
            "gamma": np.array([1, 1, 2], SINGLE),
            "beta": np.array([0, 1, 0], SINGLE),
            "epsilon": 0.0,
        },
        np.array(
            [
                [-math.sqrt(1.5), 1, 2 * math.sqrt(1.5)],
                [-2 / math.sqrt(14 / 3), 1 - 1 / math.sqrt(14 / 3), 6 / math.sqrt(14 / 3)],
            ],
            SINGLE,
        ),
        grade="close",
    ),
    Case(
        "layer_norm",
        {"x": V, "axes": ints(0), "epsilon": 0.0},
        np.array([[-1, -1, -1], [1, 1, 1]], SINGLE),
        id="leading-axis",
    ),
    # Variance of values whose squares overflow fp16.
    Case(
        "layer_norm",
        {"x": np.array([[-600, 600]], HALF), "axes": ints(-1)},
        np.array([[-1, 1]], HALF),
        id="fp16-range",
        oracle="overflows in fp16",
    ),
    Case(
        "local_response_norm",
        {
            "x": np.array([[[1.0], [2.0], [3.0]]], SINGLE),
            "size": 3,
            "alpha": 3.0,
            "beta": 1.0,
            "k": 1.0,
        },
        np.array([[[1 / 6], [2 / 15], [3 / 14]]], SINGLE),
        grade="close",
    ),
]

LINEAR = [
    Case(
        "linear",
        {
            "x": V,
            "weight": np.array([[1, 0, 0], [1, 1, 1]], SINGLE),
            "bias": np.array([10, 0], SINGLE),
        },
        np.array([[11, 6], [14, 18]], SINGLE),
    ),
    Case(
        "linear",
        {"x": ints(1, 2).reshape(1, 2), "weight": np.array([[3, 4]], INT)},
        np.array([[11]], INT),
        id="int",
    ),
    Case("matmul", {"x": V, "y": V, "transpose_y": True}, V @ V.T),
    Case("matmul", {"x": V, "y": V, "transpose_x": True}, V.T @ V, id="transpose_x"),
    Case(
        "matmul",
        {"x": ones(2, 1, 3), "y": ones(4, 1, 3, 2)},
        np.full((4, 2, 1, 2), 3, SINGLE),
        id="broadcast",
    ),
    Case(
        "matmul",  # the two heads of each group share y
        {"x": HEADS, "y": GROUPS, "transpose_y": True},
        np.einsum("bghtd,bgsd->bghts", HEADS, GROUPS[:, :, 0]),
        id="groups",
    ),
    Case(
        "einsum",
        {"values": (ones(1, 2, 1, 3), ones(2, 3, 4, 5)), "equation": "nchw,nwhu->nchu"},
        np.full((2, 2, 4, 5), 3, SINGLE),
    ),
]

LOG3 = math.log(3)
REDUCE = [
    Case("reduce_sum", {"x": V, "axes": ints(-1)}, np.array([6, 18], SINGLE)),
    Case(
        "reduce_sum",
        {"x": V, "axes": ints(0, 1), "keep_dims": True},
        np.array([[24]], SINGLE),
        id="keep",
    ),
    Case("reduce_sum", {"x": V}, np.array(24, SINGLE), id="all"),
    Case("reduce_mean", {"x": ints(1, 2, 4)}, np.array(2, INT), id="int-truncates"),
    Case(
        "reduce_mean",
        {"x": np.full(300, 300, HALF)},
        np.array(300, HALF),
        id="fp16-range",
        oracle="overflows in fp16",
    ),
    Case("reduce_max", {"x": V, "axes": ints(0)}, np.array([4, 5, 9], SINGLE)),
    Case("reduce_min", {"x": V, "axes": ints(1)}, np.array([1, 4], SINGLE)),
    Case("reduce_prod", {"x": V, "axes": ints(0, -1)}, np.array(1080, SINGLE)),
    Case("reduce_l1_norm", {"x": -V, "axes": ints(1)}, np.array([6, 18], SINGLE)),
    Case(
        "reduce_l2_norm", {"x": np.array([[3, 4]], SINGLE), "axes": ints(1)}, np.array([5], SINGLE)
    ),
    Case("reduce_sum_square", {"x": V, "axes": ints(1)}, np.array([14, 122], SINGLE)),
    Case(
        "reduce_log_sum",
        {"x": V[:, :2], "axes": ints(1)},
        np.array([LOG3, 2 * LOG3], SINGLE),
        grade="close",
    ),
    Case(
        "reduce_log_sum_exp",
        {"x": np.array([[1000, 1000, 1000]], SINGLE), "axes": ints(1)},
        np.array([1000 + LOG3], SINGLE),
        grade="close",
    ),
    Case("reduce_argmax", {"x": V, "axis": 1}, ints(2, 2)),
    Case(
        "reduce_argmin",
        {"x": -V, "axis": 0, "keep_dims": True, "output_dtype": "uint16"},
        np.array([[1, 1, 1]], np.uint16),
        opset="iOS17",
    ),
]

Q = np.array([[[1.0, 0.0]]], SINGLE)
K = np.array([[[0.0, 0.0], [LOG3 * math.sqrt(2), 0.0]]], SINGLE)
VALUES = np.array([[[4.0], [8.0]]], SINGLE)
ATTENTION = [
    Case("scaled_dot_product_attention", {"query": Q, "key": K, "value": VALUES},
         np.array([[[7.0]]], SINGLE), opset="iOS18", grade="close"),
    Case("scaled_dot_product_attention", {"query": Q, "key": K, "value": VALUES,
                                          "attn_mask": np.array([[[True, False]]])},
         np.array([[[4.0]]], SINGLE), opset="iOS18", id="bool-mask"),
    Case("scaled_dot_product_attention", {"query": Q, "key": K, "value": VALUES,
                                          "attn_mask": np.array([[[LOG3, 0]]], SINGLE)},
         np.array([[[6.0]]], SINGLE), opset="iOS18", grade="close", id="float-mask"),
]  # fmt: skip


@pytest.mark.parametrize("case", [*CONV, *POOL, *NORM, *LINEAR, *REDUCE, *ATTENTION], ids=str)
def test_network(case):
    check(case)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_pools_agree_with_torch_but_for_averages_of_ceil_mode(data):
    """Symmetric padding of at most half the kernel, floor and ceil, 1 to 3 dimensions."""
    rank = data.draw(st.integers(1, 3))
    kernel = data.draw(st.integers(1, 3))
    stride, pad = data.draw(st.integers(1, 3)), data.draw(st.integers(0, kernel // 2))
    ceil = data.draw(st.booleans()) and (pad > 0 or stride <= kernel)
    x = np.random.default_rng(0).standard_normal((2, 2, *[5] * rank)).astype(SINGLE)
    arguments = {
        "x": x,
        "kernel_sizes": ints(*[kernel] * rank),
        "strides": ints(*[stride] * rank),
        "pad_type": "custom",
        "pad": ints(*[pad] * 2 * rank),
        "ceil_mode": ceil,
    }
    functions = torch.nn.functional
    want = getattr(functions, f"max_pool{rank}d")(
        torch.from_numpy(x), kernel, stride, pad, ceil_mode=ceil
    )
    np.testing.assert_array_equal(compute("max_pool", "iOS15", arguments)[0], want.numpy())
    average = getattr(functions, f"avg_pool{rank}d")
    for exclude in (False, True):
        want = average(
            torch.from_numpy(x), kernel, stride, pad, ceil, count_include_pad=not exclude
        )
        if ceil and not exclude:
            # Core ML counts what ceil mode adds, as if it were padding; torch does not.
            padded = functions.pad(torch.from_numpy(x), [pad, pad + stride] * rank)
            windows = [slice(size) for size in want.shape]
            want = average(padded, kernel, stride)[tuple(windows)]
        got = compute("avg_pool", "iOS15", arguments | {"exclude_padding_from_average": exclude})
        np.testing.assert_allclose(got[0], want.numpy(), rtol=1e-5, atol=1e-6)
