"""Valid arguments of every operation, for tests that run all of them.

Values are small integers where the operation takes integers, so that every dtype holds them; the
test casts each argument to the dtype that it runs. A function receives the chosen dtypes by type
domain. The first argument is the one that is not constant.
"""

import numpy as np

X = np.array([[3, 1, 2], [6, 5, 4]], np.float32)
Z = np.array([[3, 0, 2], [0, 5, 4]], np.float32)  # for operations that also take booleans
UNIT = np.array([[0.5, 0.25, 0], [-0.5, 0.75, -0.25]], np.float32)
ROW, ROWS = np.array([[[1, 2, 3, 4]]], np.float32), np.arange(1, 9, dtype=np.float32)
IMAGE = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
CHANNELS = np.arange(16, dtype=np.float32).reshape(1, 4, 2, 2)
MASK = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], np.uint8)


def ints(*values):
    return np.array(values, np.int32)


def _each(names, arguments):
    return dict.fromkeys(names.split(), arguments)


def _recurrent(gates, *states):
    """Two inputs, one hidden unit."""
    return {
        "x": np.ones((2, 1, 2), np.float32),
        **{state: np.ones((1, 1), np.float32) for state in states},
        "weight_ih": np.full((gates, 2), 0.5, np.float32),
        "weight_hh": np.full((gates, 1), 0.25, np.float32),
        "bias": np.zeros(gates, np.float32),
        "output_sequence": True,
    }


_POOL = {"x": IMAGE, "kernel_sizes": ints(2, 2), "strides": ints(2, 2), "pad_type": "valid"}
_RESAMPLE = {
    "x": IMAGE, "sampling_mode": "nearest", "padding_mode": "constant", "padding_value": 0.0,
    "align_corners": True,
}  # fmt: skip
_CROP = {"x": IMAGE, "target_height": 2, "target_width": 2}
_SLICE = {"begin": ints(0, 1), "end": ints(2, 3), "stride": ints(1, 2)}
_BOXES = np.array([[[1, 1, 2, 2], [5, 5, 2, 2]]], np.float32)
_SCORES = np.array([[[2], [3]]], np.float32)
_SCALE, _TABLE = np.full((4, 1), 2, np.float32), np.arange(4, dtype=np.float32)

ARGUMENTS = {
    **_each("abs ceil exp exp2 floor identity reduce_argmax reduce_argmin reduce_l1_norm "
            "reduce_l2_norm reduce_log_sum reduce_log_sum_exp reduce_max reduce_mean reduce_min "
            "reduce_prod reduce_sum reduce_sum_square relu relu6 round sign sqrt square argsort "
            "cumsum inverse log rsqrt softsign", {"x": X}),
    **_each("acos asin atan atanh cos cosh erf gelu sigmoid silu sin sinh softmax softplus tan "
            "tanh", {"x": UNIT}),
    **_each("add equal floor_div greater greater_equal less less_equal maximum minimum mod mul "
            "not_equal pow real_div sub", {"x": X, "y": np.array([[2, 1, 3]], np.float32)}),
    **_each("logical_and logical_or logical_xor",
            {"x": Z, "y": np.array([[1, 1, 0]], np.float32)}),
    **_each("band_part flatten2d logical_not non_zero reverse shape squeeze", {"x": Z}),
    **_each("clamped_relu linear_activation scaled_tanh sigmoid_hard",
            {"x": UNIT, "alpha": 0.5, "beta": 2.0}),
    **_each("elu leaky_relu thresholded_relu", {"x": UNIT, "alpha": 0.25}),
    "threshold": {"x": X, "alpha": 2.0},
    "prelu": {"x": -ROW, "alpha": np.array([0.5], np.float32)},
    "softplus_parametric": {"x": ROW, "alpha": ROWS[:1], "beta": ROWS[:1]},
    "clip": {"x": X, "alpha": 2.0, "beta": 4.0},
    "cast": {"x": Z, "dtype": "int32"},
    "select": {"cond": Z, "a": X, "b": Z},
    # Images and networks.
    **_each("avg_pool max_pool l2_pool", _POOL),
    "conv": {"x": ROW, "weight": np.ones((1, 1, 2), np.float32), "bias": ROWS[:1]},
    "conv_transpose": {"x": ROW, "weight": np.ones((1, 1, 2), np.float32), "bias": ROWS[:1]},
    "conv_quantized": {
        "x": IMAGE, "weight": np.ones((1, 1, 2, 2)), "quantization_type": "linear",
        "quant_scale": np.full(1, 0.5, np.float32), "quant_bias": np.zeros(1, np.float32),
    },
    "batch_norm": {"x": ROW, "mean": ROWS[:1], "variance": ROWS[:1]},
    "instance_norm": {"x": ROW, "gamma": ROWS[:1], "beta": ROWS[:1]},
    "layer_norm": {"x": X, "axes": ints(1), "gamma": ROWS[:3], "beta": ROWS[:3]},
    "l2_norm": {"x": IMAGE},
    "local_response_norm": {"x": CHANNELS, "size": 3},
    "linear": {"x": X, "weight": np.ones((2, 3), np.float32), "bias": ROWS[:2]},
    "matmul": {"x": X, "y": X.T},
    "einsum": {"values": (CHANNELS, CHANNELS[:, :2]), "equation": "nchw,nwhu->nchu"},
    "rnn": _recurrent(1, "initial_h"),
    "gru": _recurrent(3, "initial_h"),
    "lstm": _recurrent(4, "initial_h", "initial_c"),
    "scaled_dot_product_attention": {"query": IMAGE[0] / 8, "key": IMAGE[0] / 8,
                                     "value": IMAGE[0], "attn_mask": np.eye(4, dtype=np.float32)},
    "crop": {"x": IMAGE, "crop_height": ints(1, 1), "crop_width": ints(0, 1)},
    "crop_resize": {
        "iOS15": _CROP | {"roi": np.array([0, 0, 0, 2, 2], np.float32).reshape(1, 1, 5, 1, 1)},
        "iOS17": _CROP | {"boxes": np.array([[0, 0, 2, 2]], np.float32), "box_indices": ints(0)},
    },
    "affine": {"x": IMAGE, "transform_matrix": np.array([[1, 0, 0, 0, 1, 0]], np.float32),
               "output_height": 4, "output_width": 4, "sampling_mode": "bilinear",
               "padding_mode": "constant", "padding_value": 0.0, "align_corners": True,
               "coordinates_mode": "normalized_minus_one_to_one"},
    "resample": _RESAMPLE | {"coordinates": np.array([[[[1, 2], [3, 0]]]], np.float32),
                             "coordinates_mode": "unnormalized"},
    "resize": {"x": IMAGE, "shape": ints(2, 2), "resized_dims": np.uint32(2)},
    **_each("resize_bilinear resize_nearest_neighbor",
            {"x": IMAGE, "target_size_height": 2, "target_size_width": 2}),
    **_each("upsample_bilinear upsample_nearest_neighbor",
            {"x": IMAGE, "scale_factor_height": 2, "scale_factor_width": 2}),
    "non_maximum_suppression": {
        "iOS15": {"boxes": _BOXES, "scores": _SCORES, "iou_threshold": 0.5, "max_boxes": 2,
                  "score_threshold": 0.0},
        "iOS17": {"boxes": _BOXES.swapaxes(1, 2), "scores": _SCORES.swapaxes(1, 2),
                  "iou_threshold": 0.5, "max_boxes": 2},
    },
    # Shapes and places.
    **_each("depth_to_space space_to_depth", {"x": CHANNELS, "block_size": 2}),
    "pixel_shuffle": {"x": CHANNELS, "upscale_factor": 2},
    "pixel_unshuffle": {"x": CHANNELS, "downscale_factor": np.uint32(2)},
    "space_to_batch": {"x": IMAGE, "block_shape": ints(2, 2), "paddings": np.zeros((2, 2), int)},
    "batch_to_space": {"x": np.tile(IMAGE, (4, 1, 1, 1)), "block_shape": ints(2, 2),
                       "crops": np.zeros((2, 2), int)},
    "concat": {"values": (Z, X), "axis": 1},
    "stack": {"values": (Z, X), "axis": 1},
    "expand_dims": {"x": Z, "axes": ints(0)},
    "fill": {"shape": ints(2, 2), "value": 2.0},
    "fill_like": {"ref_tensor": Z, "value": 2.0},
    "one_hot": {"indices": ints(1, 0), "one_hot_vector_size": 3, "on_value": 2.0,
                "off_value": 0.0},
    "pad": {"x": X, "pad": ints(1, 1), "constant_val": 2.0},
    "range_1d": {"start": np.float32(1), "end": np.float32(7), "step": np.float32(2)},
    "split": {"x": Z, "axis": 1, "split_sizes": ints(1, 2)},
    "tile": {"x": Z, "reps": ints(2, 1)},
    "topk": {"x": X, "k": 2},
    "transpose": {"x": Z, "perm": ints(1, 0)},
    "reshape": {"x": Z, "shape": ints(3, -1)},
    "reshape_like": {"x": Z, "ref_tensors": (X.T,), "begins": (0,), "ends": (2,),
                     "end_masks": (False,)},
    "reverse_sequence": {"x": Z, "lengths": ints(2, 3), "seq_axis": 1, "batch_axis": 0},
    "slice_by_index": {"x": Z, **_SLICE},
    "slice_by_size": {"x": Z, "begin": ints(0, 1), "size": ints(2, 2)},
    "slice_update": {"x": Z, "update": np.array([[7], [8]], np.float32), **_SLICE},
    "sliding_windows": {"x": Z, "axis": 1, "size": 2},
    "gather": {"x": X, "indices": ints(1, 0), "axis": 1},
    "gather_along_axis": {"x": X, "indices": ints(1, 0).reshape(1, 2).repeat(2, 0), "axis": 1},
    "gather_nd": {"x": X, "indices": np.array([[1, 2], [0, 0]])},
    "scatter": {"data": X, "indices": ints(1, 0), "updates": X[:, :2].T[:2].repeat(2, 1)[:, :3]},
    "scatter_along_axis": {"data": X, "indices": np.array([[1], [0]]), "updates": X[:, :1],
                           "axis": 1},
    "scatter_nd": {"data": X, "indices": np.array([[1, 2], [0, 0]]), "updates": X[0, :2]},
    # Random numbers.
    "random_bernoulli": {"shape": ints(2, 2), "prob": 0.5},
    "random_categorical": {"x": UNIT},
    "random_normal": {"shape": ints(2, 2), "mean": 0.0, "stddev": 1.0},
    "random_uniform": {"shape": ints(2, 2), "low": 0.0, "high": 1.0},
    # Quantization.
    "quantize": lambda chosen: {"input": X, "scale": 0.5, "zero_point": 2.0,
                                "output_dtype": chosen["DstT"]},
    "dequantize": {"input": X, "scale": 0.5, "zero_point": 2.0},
    "constexpr_affine_dequantize": {"quantized_data": X, "scale": 0.5, "zero_point": 2.0,
                                    "axis": 0},
    "constexpr_blockwise_shift_scale": {"data": MASK, "scale": _SCALE,
                                        "offset": np.ones((4, 1))},
    "constexpr_cast": {"source_val": X, "output_dtype": "fp32"},
    "constexpr_lut_to_dense": {
        "iOS16": {"indices": np.array([0b11100100], np.uint8), "lut": _TABLE,
                  "shape": np.array([2, 2], np.uint32)},
        "iOS18": lambda chosen: {"indices": MASK, "lut": _table(chosen)},
    },
    "constexpr_lut_to_sparse": lambda chosen: {
        "indices_mask": MASK, "indices_nonzero_data": np.array([1, 0, 1, 0]),
        "lut": _table(chosen),
    },
    "constexpr_sparse_blockwise_shift_scale": {
        "data_mask": MASK, "nonzero_data": ROWS[:4], "scale": _SCALE, "offset": np.ones((4, 1)),
    },
    "constexpr_sparse_to_dense": {
        "iOS16": {"nonzero_data": ROWS[:2], "mask": np.array([0b1001], np.uint8),
                  "shape": np.array([2, 2], np.uint32)},
        "iOS18": {"nonzero_data": ROWS[:4], "mask": MASK},
    },
}  # fmt: skip
"""Arguments by operation; where versions differ, by the first opset that takes them."""


def _table(chosen):
    entries = 2 ** int(chosen["IndicesT"].removeprefix("uint"))
    return np.arange(entries, dtype=np.float32).reshape(1, 1, entries, 1) % 100
