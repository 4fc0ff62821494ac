"""Outputs of Core ML itself, as literal values with their sources.

``APPLE``: expectations of coremltools 9.0's own tests, which Apple's CI runs on macOS against Core
ML (``coremltools/converters/mil/mil/ops/tests``; the key is file, class and test there, with … for
the class named like the operation). Values that another file of this folder holds already are not
repeated.

``REPORTED``: outputs of ``predict`` on users' devices, from public issue trackers. Where they
contradict the documentation, the interpreter follows them.
"""

import numpy as np
import pytest
from pte_foundry.mil import Program

from tests.mil.mil_cases import HALF, INT, SINGLE, compute
from tests.mil.test_mil_program import mb, save, spec


def f(values, *shape):
    array = np.array(values, SINGLE)
    return array.reshape(shape) if shape else array


def i(*values):
    return np.array(values, INT)


A = f([[-1, 2, -3], [4, -5, 6]])
P = f([[1, 2, 3], [4, 5, 6]])
D, E = f([[10, 20, 30], [40, 50, 60]]), f([[11, 12, 13], [14, 15, 16]])
U = f([[-1, -0.5, 0], [0.4, 0.5, 0.8]])
R = f([[-1.2, 2, -3.4], [4.5, -5, 6.7]])
ROW = f([1, 2, 3, 4, 5, 6, 7], 1, 1, 7)
SQUARES = f([-10.80291205, -6.42076184, -7.07910997, 9.1913279,
             -3.18181497, 0.9132147, 11.9785544, 7.92449539], 1, 2, 2, 2)  # fmt: skip
CUBES = f([-1, -5, -1, -3, -3, 8, 2, 6, 2, -4, 7, -4, 4, 6, 7, 4, 4, 8, 5, -3, 5, 0, -5, 8, 1, 7, 2,
           7, -3, -5, 5, 4, 7, -2, -4, -3, -4, 3, -1, 6, -4, 4, 3, 6, 2, -1, 4, -4, -2, -1, -2, 3,
           2, 8], 2, 1, 3, 3, 3)  # fmt: skip
SIXTEEN = f(range(1, 17), 1, 1, 4, 4)
LENGTHS = f([[1, 2, 3, 4, 5, 0, 0, 0], [1, 2, 0, 0, 0, 0, 0, 0], [1, 2, 3, 4, 0, 0, 0, 0],
             [1, 2, 3, 4, 5, 6, 7, 8]])  # fmt: skip

# By test: (operation, arguments, expected), in iOS15 unless the key names another opset.
APPLE = {
    "iOS14/test_elementwise_unary.py::TestElementwiseUnary::test_builder_to_backend_smoke": [
        ("acos", {"x": U}, f([[3.14159265, 2.0943951, 1.57079633], [1.15927948, 1.04719755,
         0.64350111]])),
        ("atanh", {"x": f([[-0.8, -0.5, 0], [0.4, 0.5, 0.8]])}, f([[-1.09861229, -0.54930614, 0],
         [0.42364893, 0.54930614, 1.09861229]])),
        ("cast", {"x": f([[-1.2, 2, -3.6], [4.5, -5, 6.7]]), "dtype": "int32"}, np.array([[-1, 2,
         -3], [4, -5, 6]], INT)),
        ("clip", {"x": R, "alpha": 0.0, "beta": 5.0}, f([[0, 2, 0], [4.5, 0, 5]])),
        ("erf", {"x": A}, f([[-0.8427007929, 0.9953222650, -0.9999779095], [0.9999999845,
         -0.9999999999, 1]])),
        ("exp2", {"x": A}, f([[0.5, 4, 0.125], [16, 0.03125, 64]])),
        ("floor", {"x": R}, f([[-2, 2, -4], [4, -5, 6]])),
        ("inverse", {"x": A}, f([[-1, 0.5, -0.33333334], [0.25, -0.2, 0.16666667]])),
        ("log", {"x": P}, f([[0, 0.69314718, 1.09861229], [1.38629436, 1.60943791, 1.79175947]])),
        ("round", {"x": f([[-1.2, 2, -3.4], [4.6, -5, 6.7]])}, f([[-1, 2, -3], [5, -5, 7]])),
        ("rsqrt", {"x": P}, f([[1, 0.70710678, 0.57735027], [0.5, 0.4472136, 0.40824829]])),
        ("sign", {"x": f([[-1, 2, 0], [0, -5, 6]])}, f([[-1, 1, 0], [0, -1, 1]])),
        ("sinh", {"x": A}, f([[-1.1752, 3.62686, -10.017874], [27.289917, -74.20321, 201.71315]])),
        ("tan", {"x": A}, f([[-1.5574, -2.185, 0.1425], [1.15782, 3.3805, -0.291]])),
        ("threshold", {"x": R, "alpha": 1.0}, f([[1, 2, 1], [4.5, 1, 6.7]])),
    ],
    "iOS14/test_elementwise_binary.py::TestElementwiseBinary::test_builder_to_backend_smoke": [
        ("floor_div", {"x": D, "y": E}, f([[0, 1, 2], [2, 3, 3]])),
        ("mod", {"x": D, "y": E}, f([[10, 8, 4], [12, 5, 12]])),
        ("pow", {"x": P, "y": A}, f([[1, 4, 0.037], [256, 0.00032, 46656]])),
        ("real_div", {"x": D, "y": E}, f([[0.90909091, 1.66666667, 2.30769231], [2.85714286,
         3.33333333, 3.75]])),
    ],
    "iOS14/test_elementwise_binary.py::…::test_real_div_int_builder_to_backend": [
        ("real_div", {"x": D.astype(INT), "y": E.astype(INT)}, np.array([[0, 1, 2], [2, 3, 3]],
         INT)),
    ],
    "iOS14/test_activation.py::Test…::test_builder_to_backend_smoke": [
        ("clamped_relu", {"x": A, "alpha": 2.0, "beta": 1.0}, f([[-2, 1, -6], [1, -10, 1]])),
        ("elu", {"x": A, "alpha": 2.0}, f([[-1.2642411, 2, -1.9004259], [4, -1.9865241, 6]])),
        ("leaky_relu", {"x": A, "alpha": 2.0}, f([[-2, 2, -6], [4, -10, 6]])),
        ("linear_activation", {"x": A, "alpha": 2.0, "beta": 3.0}, f([[1, 7, -3], [11, -7, 15]])),
        ("relu6", {"x": f([[-1, 7, -3], [4, -5, 8]])}, f([[0, 6, 0], [4, 0, 6]])),
        ("scaled_tanh", {"x": A, "alpha": 2.0, "beta": 1.0}, f([[-1.5231884, 1.9280552,
         -1.9901096], [1.9986587, -1.9998184, 1.9999754]])),
        ("sigmoid_hard", {"x": A, "alpha": 1.0, "beta": 2.0}, f([[1, 1, 0], [1, 0, 1]])),
        ("silu", {"x": f([-1.1, 2.2, -3.3, 4.4], 1, 2, 1, 2)}, f([-0.2747, 1.9805, -0.1174,
         4.3466], 1, 2, 1, 2)),
        ("softplus", {"x": A}, f([[0.31326166, 2.126928, 0.04858733], [4.01815, 0.00671535,
         6.0024757]])),
        ("softsign", {"x": A}, f([[-0.5, 0.66666667, -0.75], [0.8, -0.83333333, 0.85714286]])),
        ("thresholded_relu", {"x": A, "alpha": 2.0}, f([[0, 2, 0], [4, 0, 6]])),
        ("softmax", {"x": A, "axis": 0}, f([[6.69285092e-03, 9.99088949e-01, 1.23394576e-04],
         [9.93307149e-01, 9.11051194e-04, 9.99876605e-01]])),
    ],
    "iOS14/test_pool.py::TestAvgPool::test_builder_to_backend_smoke": [
        ("avg_pool", {"x": ROW, "kernel_sizes": i(1), "strides": i(2), "pad_type": "valid"}, f([1,
         3, 5, 7], 1, 1, 4)),
        ("avg_pool", {"x": ROW, "kernel_sizes": i(3), "strides": i(3), "pad_type": "same",
         "exclude_padding_from_average": True}, f([1.5, 4, 6.5], 1, 1, 3)),
        ("avg_pool", {"x": SQUARES, "kernel_sizes": i(1, 2), "strides": i(2, 1), "pad_type":
         "valid"}, f([-8.611837, -1.1343001], 1, 2, 1, 1)),
        ("avg_pool", {"x": SQUARES, "kernel_sizes": i(2, 3), "strides": i(1, 3), "pad_type":
         "same", "exclude_padding_from_average": True}, f([-3.7778642, 1.056109, 4.4086123,
         9.951525], 1, 2, 2, 1)),
        ("avg_pool", {"x": CUBES, "kernel_sizes": i(1, 2, 3), "strides": i(2, 1, 3), "pad_type":
         "valid"}, f([-0.8333334, 2, 1.6666667, 2.1666667, 2.5, 1.1666667, -1, 1.3333334], 2, 1, 2,
         2, 1)),
    ],
    "iOS14/test_pool.py::TestMaxPool::test_builder_to_backend_smoke": [
        ("max_pool", {"x": ROW, "kernel_sizes": i(3), "strides": i(3), "pad_type": "same"}, f([2,
         5, 7], 1, 1, 3)),
        ("max_pool", {"x": CUBES, "kernel_sizes": i(1, 2, 3), "strides": i(2, 1, 3), "pad_type":
         "same"}, f([8, 8, 6, 8, 8, 7, 7, 7, -2, 4, 8, 8], 2, 1, 2, 3, 1)),
    ],
    "iOS14/test_pool.py::TestL2Pool::test_builder_to_backend_smoke": [
        ("l2_pool", {"x": ROW, "kernel_sizes": i(3), "strides": i(3), "pad_type": "same"},
         f([2.236068, 7.071068, 9.219544], 1, 1, 3)),
    ],
    "iOS14/test_pool.py::…::test_avgpool_builder_to_backend_smoke_samelower_padtype (iOS16)": [
        ("avg_pool", {"x": f([1, 2, 3, 4], 1, 1, 2, 2), "kernel_sizes": i(2, 2), "pad_type":
         "same_lower"}, f([0.25, 0.75, 1, 2.5], 1, 1, 2, 2)),
        ("avg_pool", {"x": f(range(1, 9), 1, 1, 2, 2, 2), "kernel_sizes": i(2, 2, 2), "pad_type":
         "same_lower"}, f([0.125, 0.375, 0.5, 1.25, 0.75, 1.75, 2, 4.5], 1, 1, 2, 2, 2)),
    ],
    "iOS14/test_normalization.py::TestNormalization…::test_builder_to_backend_smoke": [
        ("l2_norm", {"x": f([1, -7, 5, -6, -3, -5], 1, 3, 2), "epsilon": 1e-10}, f([0.08304548,
         -0.58131838, 0.41522741, -0.4982729, -0.24913645, -0.41522741], 1, 3, 2)),
        ("layer_norm", {"x": f([1, -7, 5, -6, -3, -5], 1, 3, 2), "axes": i(2), "epsilon": 1e-4},
         f([0.9999969, -0.9999969, 0.9999983, -0.9999983, 0.99995005, -0.99995005], 1, 3, 2)),
    ],
    "iOS14/test_scatter_gather.py::Test…::test_builder_to_backend_smoke": [
        ("scatter", {"data": P, "indices": i(1, 0), "updates": f([[5, 6, 7], [8, 9, 10]])}, f([[9,
         11, 13], [9, 11, 13]])),
        ("scatter_along_axis", {"data": P, "indices": np.array([[1, 0, 1], [1, 1, 0]], INT),
         "updates": f([[5, 6, 7], [8, 9, 10]]), "mode": "update"}, f([[1, 6, 10], [8, 9, 7]])),
        ("scatter_nd", {"data": P, "indices": np.array([[1, 0], [0, 2]], INT), "updates": f([5,
         10])}, f([[1, 2, 13], [9, 5, 6]])),
        ("gather_nd", {"x": P, "indices": np.array([[1, 0], [0, 2]], INT)}, f([4, 3])),
    ],
    "iOS14/test_tensor_operation.py::Test…::test_builder_to_backend_smoke": [
        ("cumsum", {"x": P, "axis": 0, "reverse": True}, f([[5, 7, 9], [4, 5, 6]])),
        ("non_zero", {"x": f([[3, 0, 0], [0, 4, 0], [5, 6, 0]])}, np.array([[0, 0], [1, 1], [2, 0],
         [2, 1]], INT)),
        ("pad", {"x": P, "pad": i(1, 1, 2, 2), "mode": "reflect"}, f([[6, 5, 4, 5, 6, 5, 4], [3, 2,
         1, 2, 3, 2, 1]] * 2)),
        ("topk", {"x": A, "k": 2, "axis": 1}, (f([[2, -1], [6, 4]]), np.array([[1, 0], [2, 0]],
         INT))),
    ],
    "iOS14/test_tensor_transformation.py::Test…::test_builder_to_backend_smoke": [
        ("reverse_sequence", {"x": LENGTHS, "lengths": i(7, 2, 3, 5), "seq_axis": 1}, f([[0, 0, 5,
         4, 3, 2, 1, 0], [2, 1, 0, 0, 0, 0, 0, 0], [3, 2, 1, 4, 0, 0, 0, 0], [5, 4, 3, 2, 1, 6, 7,
         8]])),
        ("space_to_batch", {"x": f(range(1, 17), 2, 1, 2, 4), "block_shape": i(2, 2), "paddings":
         np.array([[0, 0], [2, 0]], INT)}, f([0, 1, 3, 0, 9, 11, 0, 2, 4, 0, 10, 12, 0, 5, 7, 0,
         13, 15, 0, 6, 8, 0, 14, 16], 8, 1, 1, 3)),
        ("sliding_windows", {"x": f([9, 5, 1, 3], 1, 4, 1, 1), "axis": 1, "size": 2}, f([9, 5, 5,
         1, 1, 3], 1, 3, 2, 1, 1)),
    ],
    "iOS14/test_reduction.py::TestReduction::test_builder_to_backend_smoke": [
        ("reduce_l2_norm", {"x": P, "axes": i(1)}, f([3.7416575, 8.774964])),
        ("reduce_sum_square", {"x": P, "axes": i(1)}, f([14, 77])),
    ],
    "iOS15/test_image_resizing.py::TestCropResize::test_builder_to_backend_smoke": [
        ("crop_resize", {"x": SIXTEEN, "roi": f([2, 2, 1, 1], 1, 1, 4, 1, 1), "target_height": 2,
         "target_width": 2, "normalized_coordinates": True, "sampling_mode": "UNALIGN_CORNERS"},
         f([3.5, 5.5, 11.5, 13.5], 1, 1, 1, 2, 2)),
    ],
    "iOS17/test_tensor_transformation.py::…::test_reshape_with_zero_different_len_iOS17 (iOS17)": [
        ("reshape", {"x": P, "shape": i(1, 0, -1, 0)}, f([1, 2, 3, 4, 5, 6], 1, 1, 2, 3)),
    ],
}  # fmt: skip

SEVENS, THREES = f(range(49), 1, 1, 7, 7), f(range(7), 1, 1, 7)
CEIL = {"pad_type": "valid", "ceil_mode": True}
SMALL = f([1e-4, 1e-3, 1e-2, 0.25, 1])

# By thread: what a user measured.
REPORTED = {
    "apple/coremltools#2844 (macOS)": [
        ("avg_pool", {"x": SEVENS, "kernel_sizes": i(2, 2), "strides": i(3, 3)} | CEIL, f([4, 7,
         4.75, 25, 28, 15.25, 21.25, 22.75, 12], 1, 1, 3, 3)),
        ("avg_pool", {"x": THREES, "kernel_sizes": i(2), "strides": i(3)} | CEIL, f([0.5, 3.5, 3],
         1, 1, 3)),
    ],
    "apple/coremltools#2773 (macOS, CPU, fp32)": [
        ("inverse", {"x": SMALL}, f([5000.0005, 909.09094, 99.009903, 3.9984009, 0.9999])),
    ],
    "kasper0406/stablehlo-coreml#70 (compiled model)": [
        ("floor_div", {"x": i(-7), "y": i(2)}, i(-4)),
    ],
    "apple/coremltools#2771 (macOS): what tril keeps of infinity is 0, not nan": [
        ("band_part", {"x": f([[-np.inf] * 3] * 3), "lower": -1, "upper": 0}, f([[-np.inf, 0, 0],
         [-np.inf, -np.inf, 0], [-np.inf] * 3])),
    ],
}  # fmt: skip


def rows(table):
    return [
        pytest.param(op, arguments, expected, source, id=f"{op}-{source.split('::')[0]}-{number}")
        for source, cases in table.items()
        for number, (op, arguments, expected) in enumerate(cases)
    ]


@pytest.mark.parametrize(("op", "arguments", "expected", "source"), rows(APPLE) + rows(REPORTED))
def test_measured(op, arguments, expected, source):
    opset = next((o for o in ("iOS16", "iOS17") if f"({o})" in source), "iOS15")
    wanted = expected if isinstance(expected, tuple) else (expected,)
    for got, want in zip(compute(op, opset, arguments), wanted, strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4, err_msg=source)


@pytest.mark.parametrize("dtype", [SINGLE, HALF])
def test_a_constant_base_of_two_squares_the_exponent(dtype, tmp_path):
    """apple/coremltools#2628 and #2742: of a compiled model, ``2 ** 0`` is 0.

    Only an exact constant 2 as the base; a computed base and the exponent 2 are right.
    """

    def function(x):
        two = mb().add(x=mb().mul(x=x, y=dtype(0)), y=dtype(2))
        return (
            mb().pow(x=dtype(2), y=x, name="constant"),
            mb().pow(x=dtype(3), y=x, name="three"),
            mb().pow(x=two, y=x, name="computed"),
            mb().pow(x=x, y=dtype(2), name="square"),
        )

    kind = "fp16" if dtype is HALF else "fp32"
    path = save(tmp_path / "m.mlpackage", function, "iOS17", x=spec(3, dtype=kind))
    got = Program.load(path).run({"x": np.array([0, 3, 4], dtype)})
    assert {name: values.tolist() for name, values in got.items()} == {
        "constant": [0, 9, 16],
        "three": [1, 27, 81],
        "computed": [1, 8, 16],
        "square": [0, 9, 16],
    }
