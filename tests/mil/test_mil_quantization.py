"""Run-time quantization and every compressed form of a weight, against literal values."""

import numpy as np
import pytest
from pte_foundry.errors import ProgramError
from pte_foundry.formats.mil_dtypes import BY_NAME
from pte_foundry.mil import Program
from pte_foundry.mil.constants import decode_immediate
from pte_foundry.mil.types import TensorType
from pte_foundry.upstream.coremltools_protobuf import MIL_pb2

from tests.mil.mil_cases import HALF, INT, SINGLE, Case, check, compute
from tests.mil.test_mil_program import mb, save, spec

I8, U8 = np.int8, np.uint8
ROWS = np.array([[1, 2], [3, 4]], I8)

RUN_TIME = [
    # Half to even, then the zero point, then saturation.
    Case(
        "quantize",
        {
            "input": np.array([-9, 0.5, 1.5, 2.5, 400], SINGLE),
            "scale": SINGLE(1),
            "zero_point": U8(3),
            "output_dtype": "uint8",
        },
        np.array([0, 3, 5, 5, 255], U8),
        opset="iOS17",
    ),
    Case(
        "quantize",
        {
            "input": np.array([[1, 1], [1, 1]], SINGLE),
            "axis": 1,
            "scale": np.array([1, 0.25], SINGLE),
            "output_dtype": "int8",
        },
        np.array([[1, 4], [1, 4]], I8),
        opset="iOS17",
        id="axis",
    ),
    # The quotient 200.55 is 200.5 in fp16, which would round to 200.
    Case(
        "quantize",
        {"input": np.array([40.1], HALF), "scale": HALF(0.2), "output_dtype": "uint8"},
        np.array([201], U8),
        opset="iOS17",
        id="fp16",
        oracle="divides in fp16",
    ),
    Case(
        "dequantize",
        {"input": np.array([0, 255], U8), "scale": SINGLE(0.5), "zero_point": U8(128)},
        np.array([-64, 63.5], SINGLE),
        opset="iOS17",
    ),
    Case(
        "dequantize",
        {
            "input": ROWS,
            "scale": np.array([1, 10], HALF),
            "axis": 0,
            "zero_point": np.array([1, -1], I8),
        },
        np.array([[0, 1], [40, 50]], HALF),
        opset="iOS17",
        id="axis",
    ),
]

RAMP = np.array([[[1, 2, 3, 4]]], SINGLE)
# W = weight * scale + bias, with one scale for all or one for each output.
CONV = [
    Case("conv_quantized",
         {"x": RAMP, "weight": np.array([[[0, 255]]], U8), "quantization_type": "linear",
          "quant_scale": SINGLE(0.5), "quant_bias": SINGLE(-1), "strides": np.array([2], INT)},
         np.array([[[252, 503]]], SINGLE)),
    # The bias of the convolution can only be uint8 as well: it is used as it is.
    Case("conv_quantized",
         {"x": RAMP.astype(HALF), "weight": np.array([[[1]], [[3]]], U8),
          "bias": np.array([10, 200], U8), "quantization_type": "linear", "nbits": 2,
          "quant_scale": np.array([1, 2], HALF), "quant_bias": np.array([0, -5], HALF)},
         np.array([[[11, 12, 13, 14], [201, 202, 203, 204]]], HALF), opset="iOS17",
         id="per-output"),
    Case("conv_quantized",
         {"x": np.ones((1, 2, 2, 2), SINGLE), "weight": np.full((2, 1, 2, 2), 3, U8), "groups": 2,
          "quantization_type": "linear", "quant_scale": np.array([1, 10], SINGLE),
          "quant_bias": np.array([0, 1], SINGLE), "pad_type": "same"},
         np.array([[[[12, 6], [6, 3]], [[124, 62], [62, 31]]]], SINGLE), id="groups-same"),
]  # fmt: skip

IOS16 = [
    Case(
        "constexpr_affine_dequantize",
        {
            "quantized_data": ROWS,
            "zero_point": I8(-128),
            "scale": np.array([1, 2], HALF),
            "axis": 1,
        },
        np.array([[129, 260], [131, 264]], HALF),
        opset="iOS16",
    ),
    Case(
        "constexpr_cast",
        {"source_val": np.array([0.1], HALF), "output_dtype": "fp32"},
        np.array([HALF(0.1)], SINGLE),
        opset="iOS16",
    ),
    # The packing example of iOS16/constexpr_ops.py: i3 i2 i1 i0 = 01 10 11 00.
    Case(
        "constexpr_lut_to_dense",
        {
            "indices": np.array([0b01101100, 0b11], U8),
            "lut": np.array([0, 10, 20, 30], SINGLE),
            "shape": np.array([5], np.uint32),
        },
        np.array([0, 30, 20, 10, 30], SINGLE),
        opset="iOS16",
    ),
    # Six bits: the second index spans two bytes.
    Case(
        "constexpr_lut_to_dense",
        {
            "indices": np.array([0b01_000001, 0b0000_1000], U8),
            "lut": np.arange(64, dtype=I8),
            "shape": np.array([2], np.uint32),
        },
        np.array([1, 33], I8),
        opset="iOS16",
        id="6bit",
    ),
    Case(
        "constexpr_sparse_to_dense",
        {
            "nonzero_data": np.array([7, 8], HALF),
            "mask": np.array([0b01100], U8),
            "shape": np.array([5], np.uint32),
        },
        np.array([0, 0, 7, 8, 0], HALF),
        opset="iOS16",
        oracle="fills the padding bits too",
    ),
]

INDICES = np.array([[2, 3], [3, 0], [1, 0], [3, 0], [2, 1], [0, 3]], U8)
TABLES = np.array([1, 5, 9, 13, 2, 10, 18, 26], HALF).reshape(2, 1, 4, 1)
CUBE = np.array([[[0, 0], [1, 0]], [[1, 1], [0, 0]]], U8)
VECTORS = np.array([[1, 2, 3], [4, 5, 6]], I8).reshape(1, 1, 1, 2, 3)
SPARSE = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0]], U8)

# The oracle wants coremltools' own sub-byte types here; test_mil_program.py goes through them.
BYTES = "needs sub-byte types"
IOS18 = [
    Case("constexpr_blockwise_shift_scale",
         {"data": np.array([[1, 2, 3, 4], [5, 6, 7, 8]], I8),
          "scale": np.array([[1, 10], [100, 0.5]], HALF), "offset": np.array([[0, 1], [5, 6]], I8)},
         np.array([[1, 2, 20, 30], [0, 100, 0.5, 1]], HALF), opset="iOS18"),
    Case("constexpr_blockwise_shift_scale",
         {"data": np.array([[-128, 127]], I8), "scale": np.array([[0.5]], SINGLE)},
         np.array([[-64, 63.5]], SINGLE), opset="iOS18", id="per-tensor"),
    # The two examples of iOS18/compression.py.
    Case("constexpr_lut_to_dense", {"indices": INDICES, "lut": TABLES},
         np.array([[9, 13], [13, 1], [5, 1], [26, 2], [18, 10], [2, 26]], HALF), opset="iOS18",
         id="groups", oracle=BYTES),
    Case("constexpr_lut_to_dense", {"indices": CUBE, "lut": VECTORS, "vector_axis": INT(1)},
         np.array([[[1, 1], [2, 2], [3, 3], [4, 1], [5, 2], [6, 3]],
                   [[4, 4], [5, 5], [6, 6], [1, 1], [2, 2], [3, 3]]], I8), opset="iOS18",
         id="vector-axis1", oracle=BYTES),
    Case("constexpr_lut_to_dense", {"indices": CUBE, "lut": VECTORS, "vector_axis": INT(-1)},
         np.array([[[1, 2, 3, 1, 2, 3], [4, 5, 6, 1, 2, 3]],
                   [[4, 5, 6, 4, 5, 6], [1, 2, 3, 1, 2, 3]]], I8), opset="iOS18",
         id="vector-axis2", oracle=BYTES),
    Case("constexpr_sparse_to_dense",
         {"nonzero_data": np.array([5, 6], I8), "mask": np.array([[0, 1], [1, 0]], U8)},
         np.array([[0, 5], [6, 0]], I8), opset="iOS18", oracle=BYTES),
    Case("constexpr_lut_to_sparse",
         {"indices_mask": np.array([[1, 0], [0, 1]], U8),
          "indices_nonzero_data": np.array([1, 0], U8),
          "lut": np.array([[2, 3], [4, 5]], HALF).reshape(1, 1, 2, 2), "vector_axis": INT(0)},
         (np.array([[1, 0], [1, 0], [0, 1], [0, 1]], U8), np.array([4, 5, 2, 3], HALF)),
         opset="iOS18", oracle=BYTES),
    # The example of iOS18/compression.py, with powers of two for exactness.
    Case("constexpr_sparse_blockwise_shift_scale",
         {"data_mask": SPARSE, "nonzero_data": np.array([10, 11, 3, 4, 5, 6, 7, 8, 9], I8),
          "scale": np.array([[0.5, 1, 2, 4]], HALF), "offset": np.array([[1, 2, 3, 4]], I8)},
         (SPARSE, np.array([4.5, 9, 1, 2, 4, 6, 12, 3.5, 7], HALF)), opset="iOS18", oracle=BYTES),
]  # fmt: skip


@pytest.mark.parametrize("case", [*RUN_TIME, *CONV, *IOS16, *IOS18], ids=str)
def test_quantization(case):
    check(case)


def pruned(opset, dtype):
    """A function of x[1, 4] that multiplies by a weight without any element that is not zero."""
    values, mask = np.zeros(0, dtype), np.zeros((4, 4), bool)

    def function(x):
        if opset == "iOS18":
            from coremltools.converters.mil.mil.types import np_uint1_dtype

            weight = mb().constexpr_sparse_to_dense(
                nonzero_data=values, mask=mask.astype(np_uint1_dtype)
            )
        else:
            packed = {"mask": np.zeros(2, U8), "shape": np.uint32([4, 4])}
            weight = mb().constexpr_sparse_to_dense(nonzero_data=values, **packed)
        return mb().matmul(x=x, y=weight, name="out")

    return function


@pytest.mark.parametrize("dtype", [HALF, SINGLE])
@pytest.mark.parametrize("opset", ["iOS16", "iOS17", "iOS18"])
def test_a_weight_pruned_to_nothing_is_zeros(opset, dtype, tmp_path):
    kind = "fp16" if dtype is HALF else "fp32"
    path = save(tmp_path / "m.mlpackage", pruned(opset, dtype), opset, x=spec(1, 4, dtype=kind))
    out = Program.load(path).run({"x": np.ones((1, 4), dtype)})["out"]
    np.testing.assert_array_equal(out, np.zeros((1, 4), dtype))


def test_an_empty_weight_of_a_declared_size_is_refused():
    with pytest.raises(ProgramError, match="expected 4"):
        decode_immediate(
            MIL_pb2.TensorValue(bytes={"values": b""}), TensorType(BY_NAME["fp16"], (2,))
        )


def test_convolution_cannot_look_weights_up():
    arguments = CONV[0].arguments | {"quantization_type": "lut"}
    with pytest.raises(ValueError, match="no parameter for the values of a lookup table"):
        compute("conv_quantized", "iOS15", arguments)


@pytest.mark.parametrize("nbits", [1, 2, 4, 8])
def test_tables_per_row_group_and_column_group_take_every_element_from_its_own_table(nbits):
    random = np.random.default_rng(nbits)
    indices = random.integers(0, 2**nbits, (6, 8)).astype(U8)
    tables = random.standard_normal((3, 2, 2**nbits, 1)).astype(SINGLE)
    arguments = {"indices": indices, "lut": tables}
    want = [[tables[r // 2, c // 4, indices[r, c], 0] for c in range(8)] for r in range(6)]
    np.testing.assert_array_equal(
        compute("constexpr_lut_to_dense", "iOS18", arguments)[0], np.array(want)
    )


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("length", [1, 7, 70_000])
def test_every_level_infinity_and_nan_are_quantized_as_declared(dtype, length):
    limits = np.iinfo(dtype)
    # As many elements as torch converts one by one, and as many as it converts at once.
    pattern = np.concatenate(
        [np.arange(limits.min, limits.max + 1), [-np.inf, np.inf, np.nan, -1e30, 1e30]]
    ).astype(SINGLE)
    values = np.resize(pattern, length)
    want = np.clip(np.nan_to_num(values, nan=0), limits.min, limits.max).astype(dtype)
    arguments = {"input": values, "scale": SINGLE(1), "output_dtype": dtype}
    np.testing.assert_array_equal(compute("quantize", "iOS17", arguments)[0], want)
    np.testing.assert_array_equal(values, np.resize(pattern, length))  # it was not computed in


def test_blocks_that_do_not_divide_the_weight_are_refused():
    scale = np.ones((1, 3), HALF)
    with pytest.raises(ValueError, match="do not divide"):
        compute("constexpr_blockwise_shift_scale", "iOS18", {"data": ROWS, "scale": scale})
