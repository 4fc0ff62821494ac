"""Reshaping, slicing, joining, ordering, gathering and scattering: order, negatives, borders."""

import numpy as np
import pytest

from tests.mil.mil_cases import HALF, INT, SINGLE, Case, check, compute


def ints(*values):
    return np.array(values, INT)


def count(*shape, dtype=SINGLE):
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


X = count(2, 3)
X4 = count(1, 4, 1, 1) + 1
ROW = np.array([1, 2, 3, 4], SINGLE)

SHAPES = [
    # Channels are (block row, block column, channel): two channels tell it from pixel_shuffle.
    Case(
        "depth_to_space",
        {"x": count(1, 8, 1, 1), "block_size": 2},
        np.array([[[[0, 2], [4, 6]], [[1, 3], [5, 7]]]], SINGLE),
    ),
    Case(
        "space_to_depth",
        {"x": np.array([[[[0, 2], [4, 6]], [[1, 3], [5, 7]]]], SINGLE), "block_size": 2},
        count(1, 8, 1, 1),
    ),
    Case(
        "pixel_shuffle",
        {"x": count(1, 8, 1, 1), "upscale_factor": 2},
        np.array([[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]], SINGLE),
    ),
    Case(
        "pixel_unshuffle",
        {"x": count(1, 2, 2, 2), "downscale_factor": np.uint32(2)},
        count(1, 8, 1, 1),
        opset="iOS16",
    ),
    Case(
        "space_to_batch",
        {
            "x": count(1, 1, 2, 4),
            "block_shape": ints(2, 2),
            "paddings": np.array([[0, 0], [0, 0]], INT),
        },
        np.array([[[[0, 2]]], [[[1, 3]]], [[[4, 6]]], [[[5, 7]]]], SINGLE),
    ),
    Case(
        "batch_to_space",
        {
            "x": np.array([[[[0, 2]]], [[[1, 3]]], [[[4, 6]]], [[[5, 7]]]], SINGLE),
            "block_shape": ints(2, 2),
            "crops": np.array([[0, 1], [1, 0]], INT),
        },
        np.array([[[[1, 2, 3]]]], SINGLE),
    ),
    Case("expand_dims", {"x": X, "axes": ints(-1, 0)}, X.reshape(1, 2, 3, 1)),
    Case("squeeze", {"x": X.reshape(1, 2, 1, 3), "axes": ints(-2)}, X.reshape(1, 2, 3)),
    Case("squeeze", {"x": X.reshape(1, 2, 1, 3)}, X, id="all"),
    Case(
        "transpose",
        {"x": count(2, 3, 4), "perm": ints(2, 0, -2)},
        count(2, 3, 4).transpose(2, 0, 1),
    ),
    Case("reshape", {"x": X, "shape": ints(3, -1)}, X.reshape(3, 2)),
    Case(
        "reshape",
        {"x": count(2, 3, 4), "shape": ints(0, -1, 2)},
        count(2, 3, 4).reshape(2, 6, 2),
        id="zero",
    ),
    # The example of iOS17/tensor_transformation.py.
    Case(
        "reshape",
        {"x": count(2, 50), "shape": ints(1, 0, -1, 0)},
        count(2, 50).reshape(1, 1, 2, 50),
        opset="iOS17",
        id="zero",
    ),
    Case(
        "reshape",
        {"x": count(2, 3, 4), "shape": ints(-1, 0)},
        count(2, 3, 4).reshape(6, 4),
        opset="iOS17",
        id="zero-shorter",
    ),
    Case(
        "reshape_like",
        {
            "x": count(60),
            "ref_tensors": (count(2, 3, 4), count(1, 5, 2)),
            "begins": (INT(0), INT(1)),
            "ends": (INT(2), INT(0)),
            "end_masks": (False, True),
        },
        count(60).reshape(2, 3, 5, 2),
        opset="iOS16",
    ),
    Case("reverse", {"x": X, "axes": ints(-1)}, X[:, ::-1]),
    Case("reverse", {"x": X}, X[::-1, ::-1], id="all"),
    Case(
        "reverse_sequence",
        {"x": X, "lengths": ints(1, 3), "seq_axis": 1, "batch_axis": 0},
        np.array([[0, 1, 2], [5, 4, 3]], SINGLE),
        oracle="not implemented",
    ),
    Case(
        "reverse_sequence",
        {"x": X, "lengths": ints(2, 1, 2), "seq_axis": 0, "batch_axis": 1},
        np.array([[3, 1, 5], [0, 4, 2]], SINGLE),
        oracle="not implemented",
        id="swapped",
    ),
    Case(
        "sliding_windows",
        {"x": ROW, "axis": 0, "size": 2, "stride": 2},
        np.array([[1, 2], [3, 4]], SINGLE),
    ),
    Case(
        "sliding_windows",
        {"x": X, "axis": -1, "size": 2},
        np.array([[[0, 1], [1, 2]], [[3, 4], [4, 5]]], SINGLE),
        id="negative",
    ),
]

SLICES = [
    Case("slice_by_index", {"x": X, "begin": ints(0, -2), "end": ints(2, 3)}, X[:, -2:]),
    Case(
        "slice_by_index",
        {
            "x": X,
            "begin": ints(0, 2),
            "end": ints(0, 0),
            "stride": ints(1, -2),
            "begin_mask": np.array([True, False]),
            "end_mask": np.array([True, True]),
        },
        X[:, ::-2],
        id="negative-stride",
    ),
    Case(
        "slice_by_index",
        {"x": X, "begin": ints(-1, 0), "end": ints(0, 9), "squeeze_mask": np.array([True, False])},
        X[-1],
        id="squeeze",
    ),
    Case("slice_by_size", {"x": X, "begin": ints(-1, 1), "size": ints(1, -1)}, X[1:, 1:]),
    Case(
        "slice_update",
        {"x": X, "update": np.array([[9], [8]], SINGLE), "begin": ints(0, 1), "end": ints(2, 2)},
        np.array([[0, 9, 2], [3, 8, 5]], SINGLE),
        opset="iOS18",
    ),
    Case(
        "slice_update",
        {
            "x": ROW,
            "update": np.array([9, 8], SINGLE),
            "begin": ints(-1),
            "end": ints(-5),
            "stride": ints(-2),
        },
        np.array([1, 8, 3, 9], SINGLE),
        opset="iOS18",
        id="negative-stride",
        oracle="refuses, although numpy takes it",
    ),
]

OPERATIONS = [
    Case(
        "band_part",
        {"x": count(3, 3) + 1, "lower": 0, "upper": 1},
        np.array([[1, 2, 0], [0, 5, 6], [0, 0, 9]], SINGLE),
    ),
    Case("concat", {"values": (X, X + 6), "axis": -1}, np.concatenate([X, X + 6], 1)),
    Case(
        "concat",
        {"values": (ROW[:2], ROW[2:]), "axis": 0, "interleave": True},
        np.array([1, 3, 2, 4], SINGLE),
        id="interleave",
        oracle="ignores interleave",
    ),
    Case("cumsum", {"x": X, "axis": 1}, np.cumsum(X, 1)),
    Case(
        "cumsum",
        {"x": ROW, "exclusive": True, "reverse": True},
        np.array([9, 7, 4, 0], SINGLE),
        id="exclusive-reverse",
        oracle="raises",
    ),
    Case("cumsum", {"x": ints(1, 2)}, ints(1, 3), id="int"),
    Case("fill", {"shape": ints(2, 1), "value": 3}, np.array([[3], [3]], INT)),
    Case("fill", {"shape": ints(2)}, np.zeros(2, SINGLE), id="default", oracle="gives float64"),
    Case(
        "fill_like",
        {"ref_tensor": ints(1, 2), "value": HALF(2)},
        np.array([2, 2], HALF),
        opset="iOS16",
    ),
    Case("flatten2d", {"x": count(2, 3, 2), "axis": -1}, count(6, 2)),
    Case("identity", {"x": X}, X),
    Case("non_zero", {"x": np.array([[0, 2], [3, 0]], SINGLE)}, np.array([[0, 1], [1, 0]], INT)),
    Case(
        "one_hot",
        {"indices": ints(1, 0), "one_hot_vector_size": 3},
        np.array([[0, 1, 0], [1, 0, 0]], INT),
    ),
    Case(
        "one_hot",
        {
            "indices": ints(1, 0),
            "one_hot_vector_size": 3,
            "axis": 0,
            "on_value": 2.0,
            "off_value": -1.0,
        },
        np.array([[-1, 2], [2, -1], [-1, -1]], SINGLE),
        id="axis",
    ),
    Case(
        "pad",
        {"x": X, "pad": ints(0, 1, 2, 0), "constant_val": 9.0},
        np.pad(X, ((0, 1), (2, 0)), constant_values=9),
    ),
    Case(
        "pad",
        {"x": X, "pad": ints(2, 1), "mode": "reflect"},
        np.array([[2, 1, 0, 1, 2, 1], [5, 4, 3, 4, 5, 4]], SINGLE),
        id="reflect",
    ),
    Case(
        "pad",
        {"x": X, "pad": ints(1, 0, 0, 2), "mode": "replicate"},
        np.pad(X, ((1, 0), (0, 2)), "edge"),
        id="replicate",
    ),
    Case("range_1d", {"start": 5, "end": 0, "step": -2}, ints(5, 3, 1)),
    Case("shape", {"x": count(2, 3, 4)}, ints(2, 3, 4)),
    Case("split", {"x": X, "axis": -1, "split_sizes": ints(1, 2)}, (X[:, :1], X[:, 1:])),
    Case("split", {"x": ROW, "axis": 0, "num_splits": 2}, (ROW[:2], ROW[2:]), id="equal"),
    Case("stack", {"values": (ROW, ROW + 4), "axis": -1}, np.stack([ROW, ROW + 4], -1)),
    Case("tile", {"x": X, "reps": ints(1, 2)}, np.tile(X, (1, 2))),
    Case("argsort", {"x": np.array([2, 3, 1], SINGLE)}, ints(1, 0, 2)),
    Case(
        "argsort",
        {"x": np.array([2, 3, 1], SINGLE), "ascending": True},
        ints(2, 0, 1),
        id="ascending",
    ),
    Case(
        "topk",
        {"x": np.array([2, 3, 1, 3], SINGLE), "k": 3},
        (np.array([3, 3, 2], SINGLE), ints(1, 3, 0)),
    ),
    Case(
        "topk",
        {"x": X, "k": 1, "axis": 0, "ascending": True, "return_indices": False},
        X[:1],
        opset="iOS16",
    ),
    Case(
        "topk",
        {"x": X, "k": -1, "output_indices_dtype": "uint16"},
        (X[:, ::-1], np.array([[2, 1, 0]] * 2, np.uint16)),
        opset="iOS17",
        oracle="k=-1 is not inferred right",
    ),
]

GATHERS = [
    Case("gather", {"x": X, "indices": ints(-1, 0), "axis": 1}, X[:, [2, 0]]),
    Case("gather", {"x": X, "indices": INT(1)}, X[1], id="scalar"),
    Case("gather", {"x": X, "indices": np.array([[2, 0], [1, 1]], INT), "axis": 1,
                    "batch_dims": 1}, np.array([[2, 0], [4, 4]], SINGLE), opset="iOS16"),
    Case("gather", {"x": X, "indices": np.array([1, 1], np.uint16)}, X[[1, 1]], opset="iOS17"),
    Case("gather_along_axis", {"x": X, "indices": np.array([[2, -3], [0, 1]], INT), "axis": 1},
         np.array([[2, 0], [3, 4]], SINGLE)),
    Case("gather_nd", {"x": X, "indices": np.array([[1, 2], [0, -1]], INT)},
         np.array([5, 2], SINGLE)),
    Case("gather_nd", {"x": X, "indices": np.array([[1], [2]], INT), "batch_dims": 1},
         np.array([1, 5], SINGLE), opset="iOS16"),
    # The example of iOS15/scatter_gather.py.
    Case("scatter", {"data": np.array([[1, 2, 3], [4, 5, 6]], SINGLE), "indices": ints(1, 0),
                     "updates": np.array([[5, 6, 7], [8, 9, 10]], SINGLE), "mode": "add"},
         np.array([[9, 11, 13], [9, 11, 13]], SINGLE)),
    *(Case("scatter", {"data": ints(10, 20), "indices": ints(1, 1), "updates": ints(2, 3),
                       "mode": mode}, ints(10, want), id=mode)
      for mode, want in [("add", 25), ("sub", 15), ("mul", 120), ("div", 3), ("max", 20),
                         ("min", 2)]),
    Case("scatter", {"data": X, "indices": ints(-1), "updates": np.array([[9], [8]], SINGLE),
                     "axis": 1, "mode": "update"}, np.array([[0, 1, 9], [3, 4, 8]], SINGLE),
         id="update"),
    Case("scatter_along_axis", {"data": X, "indices": np.array([[2], [0]], INT),
                                "updates": np.array([[9], [8]], SINGLE), "axis": 1,
                                "mode": "update"}, np.array([[0, 1, 9], [8, 4, 5]], SINGLE)),
    Case("scatter_nd", {"data": X, "indices": np.array([[1, 0], [1, 0]], INT),
                        "updates": np.array([10, 20], SINGLE), "mode": "add"},
         np.array([[0, 1, 2], [33, 4, 5]], SINGLE), opset="iOS17"),
]  # fmt: skip


@pytest.mark.parametrize("case", [*SHAPES, *SLICES, *OPERATIONS, *GATHERS], ids=str)
def test_tensor(case):
    check(case)


@pytest.mark.parametrize("op", ["gather", "gather_along_axis", "gather_nd"])
def test_an_index_that_ios17_leaves_undefined_is_an_error(op):
    arguments = {"x": ROW, "indices": ints(-1)}
    assert compute(op, "iOS16", arguments)[0] == 4
    with pytest.raises(IndexError, match=r"-1\.\.-1 of 4"):
        compute(op, "iOS17", arguments)


def test_reshaping_by_zero_before_ios17_needs_the_same_rank():
    with pytest.raises(ValueError, match="dimensions"):
        compute("reshape", "iOS16", {"x": count(2, 50), "shape": ints(1, 0, -1, 0)})
