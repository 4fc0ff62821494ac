"""Sampling at coordinates: paddings, ways to give coordinates, the tests of Apple, and torch.

Protects against the mistakes that sampling is known for: mirrors one pixel off, rows and columns
swapped, ties to the wrong pixel, and a padding value that counts where it should not.
"""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pte_foundry.mil import Program

from tests.mil.mil_cases import HALF, SINGLE, Case, check, compute
from tests.mil.test_mil_program import mb, save, spec
from tests.mil.test_mil_resizing import image

PADDINGS = ["constant", "border", "reflection", "symmetric"]
FOUR = np.array([[[[11, 22], [33, 44]]]], SINGLE)
NORMALIZED = "normalized_minus_one_to_one"


def sampling(sampling, padding, value, coordinates, align):
    return {
        "sampling_mode": sampling,
        "padding_mode": padding,
        "padding_value": value,
        "coordinates_mode": coordinates,
        "align_corners": align,
    }


POINTS = np.array([[-1, -2], [-3.7, -1], [0, 0], [3.5, 1.2]], SINGLE).reshape(1, 2, 2, 2)
WHOLE_POINTS = np.array([[0, 0], [1, 1], [0, 0], [1, 1]]).reshape(1, 2, 2, 2)
# coremltools' test of iOS15, which those of iOS16 and iOS17 repeat: what it gives at POINTS and at
# WHOLE_POINTS. The last point of the last row hits a half: 33 is the even pixel.
APPLE = [
    (sampling("bilinear", "constant", 6.17, NORMALIZED, True), [8.585, 6.17, 27.5, 6.17],
     [27.5, 44, 27.5, 44]),
    (sampling("nearest", "border", -1.0, "unnormalized", False), [11, 11, 11, 44],
     [11, 44, 11, 44]),
    (sampling("bilinear", "reflection", -1.0, "normalized_zero_to_one", True),
     [22, 36.3, 11, 34.1], [11, 44, 11, 44]),
    (sampling("nearest", "symmetric", -1.0, "normalized_zero_to_one", False), [22, 33, 11, 33],
     [11, 44, 11, 44]),
]  # fmt: skip
OPSETS = [("iOS15", "i4"), ("iOS16", "i4"), ("iOS17", "i1"), ("iOS17", "u1"), ("iOS17", "i2"),
          ("iOS17", "u2"), ("iOS18", "i4")]  # fmt: skip


def resampled(coordinates, want, opset, parameters, x=FOUR):
    want = np.array(want, x.dtype).reshape(coordinates.shape[0], 1, *coordinates.shape[1:3])
    name = f"{coordinates.dtype}-{parameters['sampling_mode']}-{parameters['padding_mode']}"
    arguments = {"x": x, "coordinates": coordinates} | parameters
    return Case("resample", arguments, want, opset, "close", id=name)


AFFINE = {"x": FOUR, "transform_matrix": np.array([[-1, -2, -3.7, -1, 3.5, 1.2]], SINGLE)}
AFFINE |= sampling("bilinear", "constant", 0.0, NORMALIZED, True)
CASES = [
    *(resampled(POINTS, floats, opset, p)
      for opset in ("iOS15", "iOS18") for p, floats, _ in APPLE),
    *(resampled(WHOLE_POINTS.astype(dtype), ints, opset, p)
      for opset, dtype in OPSETS for p, _, ints in APPLE),
    *(resampled(WHOLE_POINTS.astype(HALF), ints, "iOS16", p) for p, _, ints in APPLE),
    resampled(np.array([[[[0.5, 0]]]], HALF), [16.5], "iOS16",
              sampling("bilinear", "border", HALF(0), "unnormalized", False), x=FOUR.astype(HALF)),
    # Halves of rows and columns go to the even ones.
    resampled(np.array([[[[0.5, 0.5], [0.5, 1], [1.5, 1.5]]]], SINGLE), [11, 33, 44], "iOS15",
              sampling("nearest", "border", 0.0, "unnormalized", False)),
    # Infinitely far is as outside as any.
    resampled(np.array([[[[np.inf, 0], [0, -np.inf], [-1e30, 1e30]]]], SINGLE), [7, 7, 7], "iOS15",
              sampling("bilinear", "constant", 7.0, "unnormalized", True)),
    # A padding value that does not apply does not count, not even with a weight of zero.
    resampled(np.array([[[[1, 1], [9, 9]]]], SINGLE), [44, 44], "iOS15",
              sampling("bilinear", "border", np.inf, "unnormalized", True)),
    # coremltools' test of iOS15.
    Case("affine", AFFINE | {"output_height": 3, "output_width": 3},
         np.array([[[[10.752501, 2.5025, 0], [1.98, 0, 0], [0, 0, 0]]]], SINGLE), grade="close"),
    Case("affine", AFFINE | {"output_height": 2, "output_width": 5},
         np.array([[[[10.752501, 5.94, 2.5025, 0.44, 0], [0] * 5]]], SINGLE), grade="close",
         id="wide"),
    Case("affine", AFFINE | {"output_height": 1, "output_width": 1, "sampling_mode": "BILINEAR",
                             "transform_matrix": np.array([[9, 9, 0.5, 9, 9, -1]], SINGLE)},
         np.array([[[[0.25 * 11 + 0.75 * 22]]]], SINGLE), grade="close", id="one-pixel"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sampling(case):
    check(case)


@pytest.mark.parametrize(
    ("padding", "row"),
    [
        ("constant", [0, 0, 0, 1, 2, 3, 0, 0, 0]),
        ("border", [1, 1, 1, 1, 2, 3, 3, 3, 3]),
        ("reflection", [2, 3, 2, 1, 2, 3, 2, 1, 2]),
        ("symmetric", [3, 2, 1, 1, 2, 3, 3, 2, 1]),
    ],
)
def test_paddings_are_those_drawn_in_the_documentation(padding, row):
    """As pixels, and blended half way between them; along both axes, on an axis of one pixel."""
    for sampled, step in (("nearest", 0), ("bilinear", 0), ("bilinear", 0.5)):
        places = np.arange(-3, 6) + step
        parameters = sampling(sampled, padding, 0.0, "unnormalized", False)
        want = np.array(row, SINGLE) if step == 0 else (np.array(row)[:-1] + row[1:]) / 2
        for axis in (0, 1):
            coordinates = np.zeros((1, 1, len(want), 2), SINGLE)
            coordinates[..., axis] = places[: len(want)]
            x = image(1, 2, 3) if axis == 0 else image(1, 2, 3).swapaxes(2, 3)
            arguments = {"x": x, "coordinates": coordinates} | parameters
            np.testing.assert_array_equal(compute("resample", "iOS15", arguments)[0].ravel(), want)


@pytest.mark.parametrize("size", [(4, 5), (1, 6), (3, 1), (1, 1)])
@pytest.mark.parametrize("align", [True, False])
def test_resampling_is_torchs_grid_sample(size, align):
    """As coremltools' frontend translates it: torch's one reflection is two of MIL's."""
    random = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, *size, generator=random)
    places = torch.rand(2, 6, 7, 2, generator=random) * 5 - 2.5
    paddings = {"constant": "zeros", "border": "border"}
    paddings |= {"reflection" if align else "symmetric": "reflection"}
    for mode, (ours, theirs) in itertools.product(("bilinear", "nearest"), paddings.items()):
        parameters = sampling(mode, ours, 0.0, NORMALIZED, align)
        arguments = {"x": x.numpy(), "coordinates": places.numpy()} | parameters
        want = F.grid_sample(x, places, mode, theirs, align).numpy()
        np.testing.assert_allclose(
            compute("resample", "iOS15", arguments)[0], want, rtol=1e-5, atol=2e-6
        )
        halves = arguments | {"coordinates": (places.numpy() + 1) / 2}
        got = compute("resample", "iOS15", halves | {"coordinates_mode": "normalized_zero_to_one"})
        np.testing.assert_allclose(got[0], want, rtol=1e-5, atol=2e-6)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(PADDINGS), st.integers(1, 4), st.integers(2, 4), st.data())
def test_bilinear_resampling_is_blending_in_the_padded_image(padding, height, width, data):
    """The image is padded first, by numpy, instead of the positions being folded back."""
    quarters = st.integers(-20, 36)
    x = np.random.default_rng(0).standard_normal((1, 2, height, width)).astype(SINGLE)
    column, row = (data.draw(quarters) / 4 for _ in range(2))
    mode = {"border": "edge", "reflection": "reflect"}.get(padding, padding)
    values = {"constant_values": 3.5} if padding == "constant" else {}
    padded = np.pad(x[0], ((0, 0), (12, 12), (12, 12)), mode, **values)
    top, left = int(np.floor(row)), int(np.floor(column))
    want = sum(
        (1 - abs(row - i)) * (1 - abs(column - j)) * padded[:, i + 12, j + 12]
        for i in (top, top + 1)
        for j in (left, left + 1)
    )
    arguments = {"x": x, "coordinates": np.array([[[[column, row]]]], SINGLE)}
    got = compute(
        "resample",
        "iOS15",
        arguments | sampling("bilinear", padding, 3.5, "unnormalized", True),
    )
    np.testing.assert_allclose(got[0].ravel(), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("matrices", [1, 2])
@pytest.mark.parametrize("align", [True, False])
def test_affine_is_torchs_affine_grid_and_grid_sample(matrices, align):
    random = torch.Generator().manual_seed(2)
    x, theta = torch.randn(2, 3, 4, 5, generator=random), torch.randn(2, 2, 3, generator=random)
    theta = theta[:matrices].expand(2, 2, 3)
    arguments = {"x": x.numpy(), "transform_matrix": theta[:matrices].reshape(-1, 6).numpy()}
    arguments |= sampling("bilinear", "constant", 0.0, NORMALIZED, align)
    for height, width in ((4, 5), (3, 2), (7, 1)):
        want = F.grid_sample(
            x, F.affine_grid(theta, (2, 3, height, width), align), align_corners=align
        )
        sizes = {"output_height": height, "output_width": width}
        got = compute("affine", "iOS15", arguments | sizes)
        np.testing.assert_allclose(got[0], want.numpy(), rtol=1e-4, atol=5e-6)


PLAIN = sampling("nearest", "border", 0.0, "unnormalized", True)
TWO = np.zeros((2, 1, 1, 2), SINGLE)


@pytest.mark.parametrize(
    ("op", "arguments", "message"),
    [
        ("resample", PLAIN | {"coordinates": TWO}, "coordinates for 2"),
        ("resample", PLAIN | {"coordinates": TWO[:1], "sampling_mode": "cubic"}, "'cubic'"),
        ("resample", PLAIN | {"coordinates": TWO[:1], "padding_mode": "wrap"}, "'wrap'"),
        ("resample", PLAIN | {"coordinates": TWO[:1], "coordinates_mode": "mm"}, "'mm'"),
        (
            "affine",
            AFFINE | {"transform_matrix": np.zeros((3, 6), SINGLE)},
            "3 matrices, expected 1",
        ),
        ("affine", AFFINE | {"coordinates_mode": "unnormalized"}, "'unnormalized'"),
    ],
)
def test_invalid_arguments_are_refused(op, arguments, message):
    size = {"output_height": 1, "output_width": 1} if op == "affine" else {}
    with pytest.raises((ValueError, IndexError), match=message):
        compute(op, "iOS17", {"x": FOUR} | size | arguments)


@pytest.mark.parametrize(
    ("opset", "dtype"), [("iOS15", "fp32"), ("iOS16", "fp16"), ("iOS17", "fp16")]
)
def test_programs_declare_what_sampling_gives(opset, dtype, tmp_path):
    """Shapes and dtypes as coremltools infers them; boxes and coordinates are inputs."""
    boxes = "boxes" if opset == "iOS17" else "roi"
    numpy = {"fp32": SINGLE, "fp16": HALF}
    zero = numpy[dtype](0)

    def function(x, coordinates, regions, matrix):
        return (
            mb().resample(x=x, coordinates=coordinates,
                          **sampling("bilinear", "constant", zero, NORMALIZED, False), name="r"),
            mb().affine(x=x, transform_matrix=matrix, output_height=3, output_width=2,
                        **sampling("bilinear", "constant", zero, NORMALIZED, True), name="a"),
            mb().crop_resize(x=x, **{boxes: regions}, target_height=2, target_width=3, name="c"),
        )  # fmt: skip

    inputs = {
        "x": np.arange(32).reshape(1, 2, 4, 4),
        "coordinates": np.zeros((1, 5, 6, 2)),
        "regions": np.array([0, 0, 0, 1, 1]).reshape(1, 1, 5, 1, 1),
        "matrix": np.array([[1, 0, 0, 0, 1, 0]]),
    }
    if boxes == "boxes":
        inputs["regions"] = np.array([[0, 0, 1, 1]])
    kinds = dict.fromkeys(inputs, dtype) | ({"coordinates": "fp32"} if opset == "iOS15" else {})
    specs = {name: spec(*value.shape, dtype=kinds[name]) for name, value in inputs.items()}
    program = Program.load(save(tmp_path / "m.mlpackage", function, opset, **specs))
    outputs = program.run({name: v.astype(numpy[kinds[name]]) for name, v in inputs.items()})
    crops = (1, 2, 2, 3) if boxes == "boxes" else (1, 1, 2, 2, 3)
    assert [o.shape for o in outputs.values()] == [(1, 2, 5, 6), (1, 2, 3, 2), crops]
    assert {o.dtype for o in outputs.values()} == {np.dtype(numpy[dtype])}
    np.testing.assert_array_equal(outputs["r"][0, :, 0, 0], [7.5, 23.5])
