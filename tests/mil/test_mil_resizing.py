"""Resizing: every sampling mode against its documented formula, the tests of Apple, and torch.

Protects against the mistakes that resizing is known for: grids half a pixel off, the wrong neighbor
at ties and borders, sizes one short, and modes that differ only for an axis of one pixel.
"""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pte_foundry.errors import ProgramError
from pte_foundry.mil import Program

from tests.mil.mil_cases import HALF, INT, SINGLE, Case, check, compute
from tests.mil.test_mil_program import mb, save, spec

MODES = ["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS"]


def image(*values, dtype=SINGLE):
    """One image with one channel and one row."""
    return np.array([[[values]]], dtype)


def bilinear(values, mode, want, opset="iOS15"):
    arguments = {
        "x": image(*values),
        "target_size_height": 1,
        "target_size_width": len(want),
        "sampling_mode": mode,
    }
    name = f"{mode}-{len(values)}-{len(want)}"
    return Case("resize_bilinear", arguments, image(*want), opset, grade="close", id=name)


def upsampled(op, values, factor, want, opset="iOS15", grade="exact", **more):
    factors = {"scale_factor_height": type(factor)(1), "scale_factor_width": factor}
    arguments = {"x": image(*values)} | factors
    name = "-".join([str(factor), *(f"{k}={v}" for k, v in more.items())])
    return Case(op, arguments | more, image(*want), opset, grade, id=name)


def resized(x, shape, dims, want, **more):
    arguments = {"x": x, "shape": np.array(shape, INT), "resized_dims": np.uint32(dims)} | more
    name = "-".join(["x".join(map(str, x.shape)), *map(str, shape), *more.values()])
    return Case("resize", arguments, want, "iOS17", grade="close", id=name)


PAIR = np.array([-6.174, 9.371], SINGLE)
A, B = PAIR

CASES = [
    # The examples of the documentation of resize_bilinear: the input is its own grid.
    bilinear([0, 1], "UNALIGN_CORNERS", [0, 0.1, 0.5, 0.9, 1]),
    bilinear([0, 1], "STRICT_ALIGN_CORNERS", [0, 0.25, 0.5, 0.75, 1]),
    bilinear([0, 1], "ALIGN_CORNERS", [0, 0.25, 0.5, 0.75, 1]),
    bilinear([0, 1], "DEFAULT", [0, 0.4, 0.8, 1, 1]),
    bilinear([0, 1], "OFFSET_CORNERS", [0.1, 0.3, 0.5, 0.7, 0.9]),
    bilinear([0, 1], "UNALIGN_CORNERS", [0, 0, 1 / 3, 2 / 3, 1, 1]),
    bilinear([0, 1], "DEFAULT", [0, 1 / 3, 2 / 3, 1, 1, 1]),
    bilinear([0, 1], "OFFSET_CORNERS", [k / 12 for k in (1, 3, 5, 7, 9, 11)]),
    # Smaller.
    bilinear([0, 1, 2, 3], "STRICT_ALIGN_CORNERS", [0, 3]),
    bilinear([0, 1, 2, 3], "DEFAULT", [0, 2]),
    bilinear([0, 1, 2, 3], "OFFSET_CORNERS", [0.75, 2.25]),
    bilinear([0, 1, 2, 3], "UNALIGN_CORNERS", [0.5, 2.5], opset="iOS26"),
    # One pixel wanted: what tells ALIGN_CORNERS from STRICT_ALIGN_CORNERS.
    bilinear([0, 1, 2, 3], "STRICT_ALIGN_CORNERS", [0]),
    bilinear([0, 1, 2, 3], "ALIGN_CORNERS", [1.5]),
    bilinear([0, 1, 2, 3], "DEFAULT", [0]),
    bilinear([0, 1, 2, 3], "OFFSET_CORNERS", [1.5]),
    bilinear([0, 1, 2, 3], "UNALIGN_CORNERS", [1.5]),
    # One pixel given.
    *(bilinear([7], mode, [7, 7, 7]) for mode in MODES),
    Case("resize_bilinear", {"x": image(4, 6, 8)}, image(4), id="defaults"),
    # The same, in half precision: one rounding, at the end.
    Case(
        "resize_bilinear",
        {"x": image(0, 1, dtype=HALF), "target_size_width": 3, "sampling_mode": "UNALIGN_CORNERS"},
        image(0, 0.5, 1, dtype=HALF),
        id="half",
    ),
    Case(
        "resize_bilinear",
        {"x": image(-60000, 60000, dtype=HALF), "target_size_width": 6},
        image(-60000, -20000, 20000, 60000, 60000, 60000, dtype=HALF),
        id="half-no-overflow",
    ),
    # coremltools' tests of iOS14 to iOS16.
    upsampled("upsample_bilinear", [0, 1], 3, [0, 0.2, 0.4, 0.6, 0.8, 1], grade="close"),
    upsampled("upsample_bilinear", [0, 1], 2.6, [0, 0.1, 0.5, 0.9, 1], grade="close",
              align_corners=False),
    upsampled("upsample_bilinear", [1, 2], 3, [1, 1.2, 1.4, 1.6, 1.8, 2], "iOS16", "close",
              align_corners=True, half_pixel_centers=False),
    upsampled("upsample_bilinear", [1, 2], 3, [1, 1, 4 / 3, 5 / 3, 2, 2], "iOS16", "close",
              align_corners=False, half_pixel_centers=True),
    upsampled("upsample_bilinear", [1, 2], 3, [1, 4 / 3, 5 / 3, 2, 2, 2], "iOS16", "close",
              align_corners=False, half_pixel_centers=False),
    upsampled("upsample_bilinear", [1, 2], 3, [1, 1, 4 / 3, 5 / 3, 2, 2], "iOS17", "close",
              align_corners=False),
    upsampled("upsample_bilinear", [3, 4], 1, [3, 4], "iOS18"),
    upsampled("upsample_nearest_neighbor", [1.5, 2.5, 3.5], 2, [1.5, 1.5, 2.5, 2.5, 3.5, 3.5]),
    upsampled("upsample_nearest_neighbor", [1.5, -2.5, 3.5], 1.0, [1.5, -2.5, 3.5]),
    upsampled("upsample_nearest_neighbor", [1.5, -2.5, 3.5], 0.67, [1.5, -2.5]),
    upsampled("upsample_nearest_neighbor", [1.5, -2.5, 3.5], 1.12, [1.5, -2.5, 3.5]),
    # 0.7 is a little less in fp32, and so is ten times it in fp64; in fp32 that is 7.
    upsampled("upsample_nearest_neighbor", range(10), 0.7, [0, 1, 2, 4, 5, 7, 8]),
    Case("upsample_nearest_neighbor", {"x": image(1, 2, dtype=HALF)}, image(1, 2, dtype=HALF),
         id="defaults"),
    Case("resize_nearest_neighbor",
         {"x": np.array([[[[0.37], [6.17]]]], SINGLE), "target_size_height": 2,
          "target_size_width": 3},
         np.array([[[[0.37] * 3, [6.17] * 3]]], SINGLE)),
    # The centers of the new pixels: 4 become the second and the fourth, unlike upsampling by 1/2.
    Case("resize_nearest_neighbor",
         {"x": image(0, 1, 2, 3), "target_size_height": 1, "target_size_width": 2},
         image(1, 3), id="centers"),
    upsampled("upsample_nearest_neighbor", [0, 1, 2, 3], 0.5, [0, 2]),
    # iOS17's resize: nearest by centers, 2 to 3 hits a half; the leading sizes do not count.
    resized(PAIR.reshape(1, 1, 1, 2, 1), [1, 1, 3, 2], 2,
            np.array([A, A, B, B, B, B], SINGLE).reshape(1, 1, 1, 3, 2),
            interpolation_mode="NEAREST_NEIGHBOR", sampling_mode="DEFAULT"),
    resized(image(A, B), [6], 1, image(A, A, A, B, B, B), interpolation_mode="NEAREST_NEIGHBOR"),
    resized(image(0, 1, 2, 3), [2], 1, image(0, 3), interpolation_mode="NEAREST_NEIGHBOR",
            sampling_mode="STRICT_ALIGN_CORNERS"),
    resized(image(0, 1), [3], 1, image(0, 1, 1), interpolation_mode="NEAREST_NEIGHBOR",
            sampling_mode="ALIGN_CORNERS"),
    resized(image(0, 1, 2, 3), [3], 1, image(1, 2, 3), interpolation_mode="NEAREST_NEIGHBOR",
            sampling_mode="OFFSET_CORNERS"),
    resized(np.array([[[0, 1]]], SINGLE), [1, 1, 5], 2, np.array([[[0, 0.4, 0.8, 1, 1]]], SINGLE)),
    resized(image(5, 6), [1, 0, 0], 2, image(5, 6)),
    resized(image(5, 6), [0, 3], 2, image(5, 5.5, 6), sampling_mode="ALIGN_CORNERS"),
    resized(np.array([0, 2], SINGLE), [3], 1, np.array([0, 1, 2], SINGLE),
            sampling_mode="STRICT_ALIGN_CORNERS"),
    resized(image(1, 2), [9, 9, 9, 9], 0, image(1, 2)),
    resized(image(0, 3, dtype=HALF), [4], 1, image(0, 1, 2, 3, dtype=HALF),
            sampling_mode="STRICT_ALIGN_CORNERS"),
    # int32: fractions are dropped, but not the last bit of a whole number; nothing goes through
    # fp32, which would give 2**30 here.
    resized(image(-7, 0, dtype=INT), [3], 1, image(-7, -3, 0, dtype=INT),
            sampling_mode="ALIGN_CORNERS"),
    resized(image(0, 100, dtype=INT), [101], 1, image(*range(101), dtype=INT),
            sampling_mode="ALIGN_CORNERS"),
    resized(image(2**30 + 1, -(2**31), dtype=INT), [0], 1, image(2**30 + 1, -(2**31), dtype=INT)),
    resized(image(2**30 + 1, 5, dtype=INT), [3], 1, image(2**30 + 1, 5, 5, dtype=INT),
            interpolation_mode="NEAREST_NEIGHBOR"),
    Case("crop", {"x": np.arange(1, 17, dtype=SINGLE).reshape(1, 1, 4, 4),
                  "crop_height": np.array([0, 1], INT), "crop_width": np.array([1, 1], INT)},
         np.array([[[[2, 3], [6, 7], [10, 11]]]], SINGLE)),
    Case("crop", {"x": np.arange(12, dtype=HALF).reshape(1, 3, 4),
                  "crop_height": np.array([2, 0], INT), "crop_width": np.array([0, 3], INT)},
         np.array([[[8]]], HALF), opset="iOS18", id="rank-3"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_resizing(case):
    check(case)


def grid_of_the_documentation(mode, old, new):
    """The formulas of resize_bilinear's documentation, in exact numbers; ``linspace`` for one."""
    steps = max(new - 1, 1)
    start, spacing = {
        "STRICT_ALIGN_CORNERS": (Fraction(0), Fraction(old - 1, steps)),
        "ALIGN_CORNERS": (
            Fraction(old - 1, 2) if new == 1 else Fraction(0),
            Fraction(old - 1, steps),
        ),
        "DEFAULT": (Fraction(0), (old - Fraction(old, new)) / steps),
        "OFFSET_CORNERS": (Fraction(max(1, old - 1), 2 * new), Fraction(max(1, old - 1), new)),
        "UNALIGN_CORNERS": (Fraction(old, 2 * new) - Fraction(1, 2), Fraction(old, new)),
    }[mode]
    return [min(Fraction(old - 1), max(Fraction(0), start + i * spacing)) for i in range(new)]


SIZES = st.tuples(st.integers(1, 7), st.integers(1, 9))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(MODES), SIZES, SIZES)
def test_both_interpolations_follow_the_documented_grid(mode, height, width):
    """Two dimensions at once, each output pixel computed by itself from its four neighbors."""
    x = np.random.default_rng(0).standard_normal((2, height[0], width[0])).astype(SINGLE)
    linear, nearest = (np.zeros((2, height[1], width[1]), SINGLE) for _ in range(2))
    for i, y in enumerate(grid_of_the_documentation(mode, *height)):
        for j, z in enumerate(grid_of_the_documentation(mode, *width)):
            top, left = int(y), int(z)
            for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                share = float((1 - abs(y - row)) * (1 - abs(z - column)))
                if share:
                    linear[:, i, j] += share * x[:, row, column]
            halves_up = math.floor(y + Fraction(1, 2)), math.floor(z + Fraction(1, 2))
            nearest[:, i, j] = x[:, halves_up[0], halves_up[1]]
    sizes = {"target_size_height": height[1], "target_size_width": width[1]}
    got = compute("resize_bilinear", "iOS15", {"x": x, "sampling_mode": mode} | sizes)
    np.testing.assert_allclose(got[0], linear, rtol=1e-5, atol=1e-6)
    resize = {"x": x, "shape": np.array([height[1], width[1]], INT), "resized_dims": np.uint32(2)}
    got = compute("resize", "iOS17", resize | {"sampling_mode": mode})
    np.testing.assert_allclose(got[0], linear, rtol=1e-5, atol=1e-6)
    if mode != "DEFAULT":
        modes = {"interpolation_mode": "NEAREST_NEIGHBOR", "sampling_mode": mode}
        np.testing.assert_array_equal(compute("resize", "iOS17", resize | modes)[0], nearest)
    if mode == "UNALIGN_CORNERS":
        got = compute("resize_nearest_neighbor", "iOS15", {"x": x} | sizes)
        np.testing.assert_array_equal(got[0], nearest)


@pytest.mark.parametrize("sizes", [(5, 3), (4, 7), (3, 12), (6, 6), (1, 4), (9, 1)])
def test_resizing_is_what_torch_calls_so(sizes):
    old, new = sizes
    x = torch.randn(2, 3, old, 4, generator=torch.Generator().manual_seed(0))
    sizes = {"target_size_height": new, "target_size_width": 6}
    for mode, align in (("UNALIGN_CORNERS", False), ("STRICT_ALIGN_CORNERS", True)):
        got = compute("resize_bilinear", "iOS15", {"x": x.numpy(), "sampling_mode": mode} | sizes)
        want = F.interpolate(x, (new, 6), mode="bilinear", align_corners=align)
        np.testing.assert_allclose(got[0], want.numpy(), rtol=1e-5, atol=1e-6)
    got = compute("resize_nearest_neighbor", "iOS15", {"x": x.numpy()} | sizes)
    np.testing.assert_array_equal(got[0], F.interpolate(x, (new, 6), mode="nearest-exact").numpy())
    factors = {"scale_factor_height": (new + 1e-4) / old, "scale_factor_width": 1.5}
    got = compute("upsample_nearest_neighbor", "iOS15", {"x": x.numpy()} | factors)
    np.testing.assert_array_equal(got[0], F.interpolate(x, (new, 6), mode="nearest").numpy())


def test_three_dimensions_are_interpolated_together():
    x = torch.randn(1, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    arguments = {"x": x.numpy(), "shape": np.array([5, 3, 7], INT), "resized_dims": np.uint32(3)}
    got = compute("resize", "iOS17", arguments | {"sampling_mode": "UNALIGN_CORNERS"})
    want = F.interpolate(x, (5, 3, 7), mode="trilinear")
    np.testing.assert_allclose(got[0], want.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("op", "opset", "arguments", "message"),
    [
        ("resize_bilinear", "iOS15", {"sampling_mode": "CORNERS"}, "'CORNERS'"),
        ("upsample_bilinear", "iOS16", {"half_pixel_centers": True}, "exclude each other"),
        ("resize", "iOS17", {"shape": [3], "resized_dims": 1, "interpolation_mode": "CUBIC"},
         "'CUBIC'"),
        ("resize", "iOS17", {"shape": [3], "resized_dims": 2}, "cannot resize 2"),
    ],
)  # fmt: skip
def test_invalid_arguments_are_refused(op, opset, arguments, message):
    with pytest.raises(ValueError, match=message):
        compute(op, opset, {"x": image(1, 2)} | arguments)


def test_cropping_more_than_there_is_fails():
    with pytest.raises(RuntimeError):
        compute("crop", "iOS15", {"x": image(1), "crop_height": [1, 1], "crop_width": [0, 0]})


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_programs_declare_what_resizing_gives(tmp_path, dtype):
    """Sizes, ranks and dtypes as coremltools infers them; the loop compares every result."""

    def function(x, shape):
        factors = {"scale_factor_height": 1.7, "scale_factor_width": 3.0}
        sizes = {"target_size_height": 5, "target_size_width": 4}
        return (
            mb().upsample_nearest_neighbor(x=x, **factors, name="un"),
            mb().upsample_bilinear(x=x, **factors, half_pixel_centers=False, align_corners=False,
                                   name="ub"),
            mb().resize_nearest_neighbor(x=x, **sizes, name="rn"),
            mb().resize_bilinear(x=x, **sizes, sampling_mode="OFFSET_CORNERS", name="rb"),
            mb().resize(x=x, shape=shape, resized_dims=np.uint32(2), name="r"),
            mb().crop(x=x, crop_height=[1, 0], crop_width=[0, 1], name="c"),
        )  # fmt: skip

    path = save(tmp_path / "m.mlpackage", function, "iOS17",
                x=spec(2, 3, 2, dtype=dtype), shape=spec(3, dtype="int32"))  # fmt: skip
    x = np.arange(12, dtype={"fp32": SINGLE, "fp16": HALF}[dtype]).reshape(2, 3, 2)
    program = Program.load(path)
    outputs = program.run({"x": x, "shape": np.array([7, 0, 5], INT)})
    shapes = [(2, 5, 6), (2, 5, 6), (2, 5, 4), (2, 5, 4), (2, 3, 5), (2, 2, 1)]
    assert [o.shape for o in outputs.values()] == shapes
    assert {o.dtype for o in outputs.values()} == {x.dtype}
    np.testing.assert_array_equal(outputs["c"], x[:, 1:, :1])
    with pytest.raises(ProgramError, match="resize 'r' failed"):
        program.run({"x": x, "shape": np.array([7, -1, 5], INT)})
