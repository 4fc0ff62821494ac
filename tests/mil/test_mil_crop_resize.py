"""Boxes cut out of images: their coordinates, modes, images and borders.

Protects against rows and columns swapped, blending with a padding that does not count, boxes taken
from the wrong image, and ends of boxes that rounding pushes out of the image.
"""

import numpy as np
import pytest
from pte_foundry.errors import ProgramError
from pte_foundry.mil import Program

from tests.mil.mil_cases import HALF, INT, SINGLE, Case, check, compute
from tests.mil.test_mil_program import mb, save, spec
from tests.mil.test_mil_resizing import MODES

COUNT = np.arange(1, 17, dtype=SINGLE).reshape(1, 1, 4, 4)


def crop_resized(boxes, want, opset="iOS17", **more):
    """For iOS17; before that, the same boxes as a region of interest for every image."""
    boxes, parameters = np.array(boxes, SINGLE), {"sampling_mode": "ALIGN_CORNERS"} | more
    want = np.array(want, SINGLE)
    size = {"target_height": want.shape[-2], "target_width": want.shape[-1]}
    name = "-".join([str(boxes.tolist()), *map(str, more.values())])
    if opset == "iOS17":
        inputs = {"boxes": boxes, "box_indices": np.zeros(len(boxes), INT)}
    else:
        inputs, want = {"roi": boxes.reshape(-1, 1, 4, 1, 1)}, want[:, None]
    arguments = {"x": COUNT} | inputs | size | parameters
    return Case("crop_resize", arguments, want, opset, "close", id=name)


THIRDS = (np.array([6, 22 / 3, 26 / 3, 10])[:, None] + np.arange(4) / 3)[None, None]
OUTSIDE = [[0.1, 0.3, 1.3, 1.0], [0.5, 1.8, 1.0, 0.3], [0.0, 0.4, 0.6, 0.7]]


def beyond(pad):
    return [[[[3.1, 5.2], [pad, pad]]], [[[pad, 7.9], [pad, 13.9]]], [[[2.2, 3.1], [9.4, 10.3]]]]


CASES = [
    # coremltools' tests of iOS14, iOS16 and iOS17, then what they do not say.
    *(case for opset in ("iOS15", "iOS16", "iOS17") for case in (
        crop_resized([[1, 1, 2, 2]], [[[[6, 7], [10, 11]]]], opset),
        crop_resized([[1, 1, 2, 2]], THIRDS, opset),
        crop_resized([[1, 1, 2, 2]], [[[[8.5]]]], opset),
        crop_resized([[2, 2, 1, 1]], [[[[11, 10], [7, 6]]]], opset),
        crop_resized([[0, 0, 1 / 3, 1 / 3]], [[[[1, 2], [5, 6]]]], opset,
                     normalized_coordinates=True),
        crop_resized(OUTSIDE, beyond(0), opset, normalized_coordinates=True),
        # Coordinates of an image twice as large.
        crop_resized([[2, 2, 4, 4]], [[[[6, 7], [10, 11]]]], opset, spatial_scale=0.5),
        crop_resized([[0, 0, 2, 2]], [[[[1, 4], [13, 16]]]], opset, spatial_scale=0.5,
                     normalized_coordinates=True),
        # One row of 0 to 2 in three columns, said in four ways.
        crop_resized([[1, 0, 1, 2]], [[[[5, 6, 7]]]], opset),
        crop_resized([[0, 1, 2, 1]], [[[[5, 6, 7]]]], opset,
                     box_coordinate_mode="CORNERS_WIDTH_FIRST"),
        crop_resized([[1, 1, 0, 2]], [[[[5, 6, 7]]]], opset,
                     box_coordinate_mode="CENTER_SIZE_HEIGHT_FIRST"),
        crop_resized([[1, 1, 2, 0]], [[[[5, 6, 7]]]], opset,
                     box_coordinate_mode="CENTER_SIZE_WIDTH_FIRST"),
        # Columns 1 to 2.5 of row 0 in two: steps of (2.5 - 1 + 1) / 2, of (2.5 - 1) / 2 from the
        # half of it on, and of the first from half of it less half a pixel on.
        crop_resized([[0, 1, 0, 2.5]], [[[[2, 3.25]]]], opset, sampling_mode="DEFAULT"),
        crop_resized([[0, 1, 0, 2.5]], [[[[2.375, 3.125]]]], opset,
                     sampling_mode="OFFSET_CORNERS"),
        crop_resized([[0, 1, 0, 2.5]], [[[[2.125, 3.375]]]], opset,
                     sampling_mode="UNALIGN_CORNERS"),
        crop_resized([[0, 1, 0, 2.5]], [[[[2]]]], opset, sampling_mode="STRICT_ALIGN_CORNERS"),
        # A box of less than a pixel counts as one, but is not left: 1.25, then 1.75.
        crop_resized([[0, 1, 0, 1.5]], [[[[2.25, 2.5]]]], opset, sampling_mode="OFFSET_CORNERS"),
    )),
    *(crop_resized(OUTSIDE, beyond(10), opset, normalized_coordinates=True, pad_value=10.0)
      for opset in ("iOS16", "iOS17")),
    # On the last pixel the padding does not count, not even with a weight of zero.
    crop_resized([[3, 3, 4, 3]], [[[[16], [np.inf]]]], pad_value=float("inf")),
    Case("crop_resize", {"x": np.concatenate([COUNT, -COUNT]), "boxes": np.array([[1, 2, 1, 2],
                         [3, 0, 3, 0]], np.uint16)}, np.array([[[[7]]], [[[-13]]]], SINGLE),
         opset="iOS17", id="defaults"),
    Case("crop_resize", {"x": COUNT.astype(HALF), "boxes": np.array([[0.5, 0, 0.5, 0]], HALF),
                         "box_indices": np.array([0], np.uint16)},
         np.array([[[[3]]]], HALF), opset="iOS18", id="half"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_crop_resize(case):
    check(case)


@pytest.mark.parametrize("mode", MODES)
def test_a_box_around_the_image_resizes_it_and_one_backwards_turns_it(mode):
    x = np.random.default_rng(0).standard_normal((3, 2, 5, 7)).astype(SINGLE)
    for height, width in ((8, 3), (1, 1), (5, 10)):
        target = {"target_height": height, "target_width": width, "sampling_mode": mode}
        boxes = np.array([[0, 0, 1, 1], [1, 0, 0, 1]], SINGLE)
        arguments = {"x": x, "boxes": boxes, "box_indices": np.array([2, 1], INT)}
        got = compute("crop_resize", "iOS17",
                      arguments | target | {"normalized_coordinates": True})[0]  # fmt: skip
        sizes = {"target_size_height": height, "target_size_width": width, "sampling_mode": mode}
        want = compute("resize_bilinear", "iOS15", {"x": x[[2]]} | sizes)[0]
        np.testing.assert_allclose(got[:1], want, rtol=1e-5, atol=1e-6)
        want = compute("resize_bilinear", "iOS15", {"x": x[[1], :, ::-1]} | sizes)[0]
        np.testing.assert_allclose(got[1:], want, rtol=1e-5, atol=1e-6)


def test_regions_of_interest_are_cut_of_every_image_or_of_the_one_they_name():
    x = np.arange(24, dtype=SINGLE).reshape(3, 2, 2, 2)
    corner = np.array([[0, 0, 0, 0], [1, 1, 1, 1]], SINGLE)
    every = compute("crop_resize", "iOS15", {"x": x, "roi": corner.reshape(2, 1, 4, 1, 1)})[0]
    assert every.shape == (2, 3, 2, 1, 1)
    np.testing.assert_array_equal(every[..., 0, 0], [x[:, :, 0, 0], x[:, :, 1, 1]])
    named = np.insert(corner, 0, [2, 0], axis=1).reshape(2, 1, 5, 1, 1).astype(HALF)
    one = compute("crop_resize", "iOS16", {"x": x.astype(HALF), "roi": named})[0]
    assert one.shape == (2, 1, 2, 1, 1)
    np.testing.assert_array_equal(one[:, 0, :, 0, 0], [x[2, :, 0, 0], x[0, :, 1, 1]])


def test_the_end_of_a_box_is_not_lost_to_rounding():
    """A box that ends on the last pixel never reaches past it, where there is only padding."""
    x = np.full((1, 1, 1, 1000), 5, SINGLE)
    starts = np.random.default_rng(0).random(2000).astype(SINGLE) ** 8
    zeros, ones = np.zeros_like(starts), np.ones_like(starts)
    got = compute("crop_resize", "iOS17", {
        "x": x, "boxes": np.stack([zeros, starts, zeros, ones], 1), "target_width": 7,
        "box_indices": np.zeros(2000, INT), "normalized_coordinates": True,
        "sampling_mode": "STRICT_ALIGN_CORNERS", "pad_value": -1.0})  # fmt: skip
    np.testing.assert_array_equal(got[0], 5)


BOX = np.array([[0, 0, 1, 1]], SINGLE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"boxes": BOX, "box_indices": np.array([1], INT)}, r"images \[1\], there are 1"),
        ({"boxes": BOX, "box_indices": np.array([-1], INT)}, r"images \[-1\], there are 1"),
        ({"boxes": BOX.repeat(2, 0)}, "there are 1"),
        ({"boxes": BOX, "box_coordinate_mode": "EDGES"}, "'EDGES'"),
        ({"boxes": BOX, "sampling_mode": "EDGES"}, "'EDGES'"),
    ],
)
def test_invalid_boxes_are_refused(arguments, message):
    with pytest.raises((ValueError, IndexError), match=message):
        compute("crop_resize", "iOS17", {"x": COUNT} | arguments)


def test_coremltools_declares_one_crop_per_image_although_boxes_name_theirs(tmp_path):
    """A known contradiction to its own documentation: an error, not a silent reshaping."""

    def function(x, roi):
        return mb().crop_resize(x=x, roi=roi, name="c")

    path = save(tmp_path / "m.mlpackage", function, "iOS15",
                x=spec(2, 1, 3, 3), roi=spec(4, 1, 5, 1, 1))  # fmt: skip
    inputs = {"x": np.zeros((2, 1, 3, 3), SINGLE), "roi": np.zeros((4, 1, 5, 1, 1), SINGLE)}
    with pytest.raises(ProgramError, match=r"\[4, 1, 1, 1, 1\].*declares.*\[4, 2, 1, 1, 1\]"):
        Program.load(path).run(inputs)
