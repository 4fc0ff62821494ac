"""Inputs of a program: flexible shapes, optional inputs, several functions; and rare shapes inside
a program: scalars and empty tensors.
"""

import numpy as np
import pytest
import torch
from pte_foundry.errors import InputError, ProgramError
from pte_foundry.formats.mil_dtypes import BY_NAME
from pte_foundry.mil import Program
from pte_foundry.mil.signature import Input, Signature
from pte_foundry.mil.types import TensorType
from pte_foundry.upstream.coremltools_protobuf import Model_pb2

from tests.mil.mil_cases import HALF, INT, SINGLE, coremltools
from tests.mil.test_mil_program import mb, save, spec


def convert(package, model, examples, inputs, target="iOS18"):
    ct = coremltools()
    ct.convert(
        torch.jit.trace(model.eval(), examples),
        inputs=inputs,
        minimum_deployment_target=getattr(ct.target, target),
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    ).save(str(package))
    return package


# ------------------------------------------------------------------------------ flexible shapes


class Attend(torch.nn.Module):
    """Sizes that depend on one another: rows of both inputs meet in a product."""

    def forward(self, x, y):
        return (x @ y.transpose(-1, -2)).softmax(-1) @ y, x.reshape(-1)


def examples(rows, columns):
    random = torch.Generator().manual_seed(rows * 100 + columns)
    return tuple(torch.randn(1, n, 4, generator=random) for n in (rows, columns))


def assert_attends(program, rows, columns):
    x, y = examples(rows, columns)
    got = program.run({"x": x.numpy(), "y": y.numpy()}).values()
    for value, want in zip(got, Attend()(x, y), strict=True):
        torch.testing.assert_close(torch.from_numpy(value), want)


def test_symbolic_sizes_vary_independently_within_their_ranges(tmp_path):
    ct = coremltools()
    inputs = [
        ct.TensorType(name, shape=(1, ct.RangeDim(low, high, default=3), 4))
        for name, low, high in (("x", 1, 9), ("y", 2, 100))
    ]
    package = convert(tmp_path / "m.mlpackage", Attend(), examples(3, 3), inputs)
    program = Program.load(package)
    for rows, columns in ((3, 3), (1, 100), (9, 2)):
        assert_attends(program, rows, columns)
    x, y = (value.numpy() for value in examples(10, 1))
    with pytest.raises(InputError) as error:
        program.run({"x": x, "y": y})
    assert str(error.value) == (
        "input 'x' is float32[1, 10, 4], expected fp32[1, 1..9, 4]; "
        "input 'y' is float32[1, 1, 4], expected fp32[1, 2..100, 4]"
    )


def test_enumerated_shapes_of_several_inputs(tmp_path):
    ct = coremltools()
    shapes = [(1, n, 4) for n in (2, 5, 7)]
    inputs = [ct.TensorType(n, shape=ct.EnumeratedShapes(shapes, default=shapes[0])) for n in "xy"]
    package = convert(tmp_path / "m.mlpackage", Attend(), examples(2, 2), inputs)
    program = Program.load(package)
    for n in (2, 5, 7):
        assert_attends(program, n, n)
    x, y = (value.numpy() for value in examples(7, 3))
    with pytest.raises(InputError, match=r"^input 'y' .* in the shapes \[1, 2, 4\], \[1, 5, 4\]"):
        program.run({"x": x, "y": y})
    x, y = (value.numpy() for value in examples(7, 5))
    with pytest.raises(InputError) as error:  # each is allowed, but not with the other
        program.run({"x": x, "y": y})
    assert str(error.value) == (
        "the enumerated shapes of the inputs 'x', 'y' belong together by their position: found "
        "[1, 7, 4] with [1, 5, 4], expected [1, 2, 4] with [1, 2, 4], or [1, 5, 4] with "
        "[1, 5, 4], or [1, 7, 4] with [1, 7, 4]"
    )


def test_enumerated_shapes_may_repeat():
    one, two, three = ((n,) for n in (1, 2, 3))
    single = TensorType(BY_NAME["fp32"], (None,))
    inputs = Input("x", single, (one, one, two)), Input("y", single, (one, two, three))
    signature = Signature("CoreML8", inputs, (), ())

    def accept(x, y):
        return signature.accept({"x": np.zeros(x, SINGLE), "y": np.zeros(y, SINGLE)}, None)

    for x, y in ((1, 1), (1, 2), (2, 3)):
        assert set(accept(x, y)) == {"x", "y"}
    for x, y in ((1, 3), (2, 1), (2, 2)):
        with pytest.raises(InputError, match="belong together"):
            accept(x, y)


# ----------------------------------------------------------------------------- optional inputs


@pytest.fixture(scope="module")
def added(tmp_path_factory):
    def function(x, y):
        return mb().add(x=x, y=y, name="sum")

    folder = tmp_path_factory.mktemp("added") / "m.mlpackage"
    package = save(folder, function, "iOS16", x=spec(2, dtype="fp32"), y=spec(2, dtype="fp32"))
    return (package / "Data" / "com.apple.CoreML" / "model.mlmodel").read_bytes()


def with_optional(model, change=lambda array: None):
    """Makes the input ``y`` optional, as an edited specification does."""
    spec = Model_pb2.Model.FromString(model)
    (feature,) = (f for f in spec.description.input if f.name == "y")
    feature.type.isOptional = True
    change(feature.type.multiArrayType)
    return spec.SerializeToString()


X, ONES = np.array([1, 2], SINGLE), np.ones(2, SINGLE)


@pytest.mark.parametrize(
    ("field", "value", "want"),
    [(None, None, 0), ("floatDefaultValue", 2.5, 2.5), ("doubleDefaultValue", -3, -3),
     ("intDefaultValue", 4, 4)],
)  # fmt: skip
def test_an_optional_input_left_out_holds_its_default(added, field, value, want):
    def change(array):
        if field:
            setattr(array, field, value)

    program = Program.from_parts(with_optional(added, change), None)
    for _ in range(2):
        assert program.run({"x": X})["sum"].tolist() == (X + want).tolist()
    assert program.run({"x": X, "y": ONES})["sum"].tolist() == [2, 3]
    with pytest.raises(InputError, match=r"^missing input 'x', fp32\[2\]$"):
        program.run({"y": ONES})


def test_the_same_input_is_required_if_it_is_not_optional(added):
    with pytest.raises(InputError, match="missing input 'y'"):
        Program.from_parts(added, None).run({"x": X})


def _other_shape(array):
    array.shape[0] = 3


def _flexible(array):
    array.shape[0] = 9
    array.shapeRange.sizeRanges.add(lowerBound=1, upperBound=4)


@pytest.mark.parametrize("change", [_other_shape, _flexible])
def test_a_default_of_another_shape_is_refused_at_load(added, change):
    with pytest.raises(ProgramError, match="'y' has the default shape"):
        Program.from_parts(with_optional(added, change), None)


def test_a_default_that_the_dtype_cannot_hold_is_refused_at_load(added):
    def change(array):
        array.doubleDefaultValue = 1e300

    model = Model_pb2.Model.FromString(with_optional(added, change))
    inputs = model.mlProgram.functions["main"].inputs
    (declared,) = (i for i in inputs if i.name == "y")
    declared.type.tensorType.dataType = 23  # int32
    with pytest.raises(ProgramError, match="the default of the input 'y'"):
        Program.from_parts(model.SerializeToString(), None)


# --------------------------------------------------------------------------------- functions


class Head(torch.nn.Module):
    def __init__(self, shared, scale):
        super().__init__()
        self.shared, self.scale = shared, scale

    def forward(self, x):
        return self.shared(x) * self.scale


@pytest.fixture(scope="module")
def multifunction(tmp_path_factory):
    """Two functions, with inputs of different sizes, over one weight."""
    ct, folder = coremltools(), tmp_path_factory.mktemp("multifunction")
    torch.manual_seed(0)
    shared = torch.nn.Linear(32, 48, bias=False)
    description = ct.utils.MultiFunctionDescriptor()
    for name, rows in (("decode", 1), ("prefill", 6)):
        example = torch.zeros(rows, 32)
        package = convert(folder / f"{name}.mlpackage", Head(shared, rows), example,
                          [ct.TensorType("x", shape=example.shape)])  # fmt: skip
        description.add_function(str(package), "main", name)
    description.default_function_name = "decode"
    ct.utils.save_multifunction(description, str(folder / "m.mlpackage"))
    return folder / "m.mlpackage", shared.weight.detach()


def test_each_function_has_its_own_signature_and_result(multifunction):
    package, weight = multifunction
    program = Program.load(package)
    assert list(program.functions) == ["decode", "prefill"]
    for name, rows in (("decode", 1), ("prefill", 6)):
        assert str(program.functions[name].inputs[0].type) == f"fp32[{rows}, 32]"
        x = torch.randn(rows, 32, generator=torch.Generator().manual_seed(rows))
        (got,) = program.run({"x": x.numpy()}, function=name).values()
        torch.testing.assert_close(torch.from_numpy(got), x @ weight.T * rows)
        with pytest.raises(InputError, match=r"is float32\[7, 32\]"):
            program.run({"x": np.zeros((7, 32), SINGLE)}, function=name)
    with pytest.raises(InputError, match="no function 'main'; there are decode, prefill"):
        program.run({"x": np.zeros((1, 32), SINGLE)})


def test_functions_share_the_memory_of_their_weights(multifunction):
    package, weight = multifunction
    program, found = Program.load(package), []
    for block in program._blocks.values():
        for instruction in block.instructions:
            found += [v for v in instruction.constants.values()
                      if isinstance(v, torch.Tensor) and v.shape == weight.shape]  # fmt: skip
    assert len(found) == 2
    assert found[0].data_ptr() == found[1].data_ptr()


# ------------------------------------------------------------------- scalars and empty tensors


def test_scalars_run_through_a_program(tmp_path):
    def function(x, index):
        total = mb().reduce_sum(x=x, keep_dims=False, name="total")
        largest = mb().reduce_max(x=x, axes=[0, 1], keep_dims=False)
        share = mb().real_div(x=largest, y=mb().sqrt(x=mb().abs(x=total)), name="share")
        place = mb().squeeze(x=index)
        row = mb().gather(x=x, indices=place, axis=0, name="row")
        corner = mb().slice_by_index(
            x=x, begin=[1, 2], end=[0, 0], squeeze_mask=[True, True], name="corner"
        )
        return (
            total,
            share,
            row,
            corner,
            mb().reshape(x=mb().expand_dims(x=corner, axes=[0]), shape=[1, 1, 1], name="cube"),
            mb().concat(values=[total, corner], axis=0, name="pair"),
            mb().select(cond=mb().greater(x=total, y=corner), a=total, b=corner, name="larger"),
            mb().cast(x=mb().cast(x=total, dtype="fp16"), dtype="int32", name="whole"),
            mb().clip(x=total, alpha=SINGLE(0), beta=SINGLE(2), name="clipped"),
        )

    x = np.array([[1, 2, 3], [4, 5, 6.5]], SINGLE)
    for opset in ("iOS15", "iOS18"):
        package = save(tmp_path / f"{opset}.mlpackage", function, opset, x=spec(2, 3),
                       index=spec(1, dtype="int32"))  # fmt: skip
        outputs = Program.load(package).run({"x": x, "index": np.array([1], INT)})
        want = {
            "total": x.sum(),
            "share": x.max() / np.sqrt(x.sum()),
            "row": x[1],
            "corner": x[1, 2],
            "cube": x[1, 2].reshape(1, 1, 1),
            "pair": np.array([x.sum(), x[1, 2]]),
            "larger": x.sum(),
            "whole": INT(HALF(x.sum())),
            "clipped": SINGLE(2),
        }
        assert list(outputs) == list(want)
        for name, value in want.items():
            assert (outputs[name].shape, outputs[name].dtype) == (value.shape, value.dtype)
            np.testing.assert_allclose(outputs[name], value, rtol=1e-6)


def test_empty_tensors_run_through_a_program(tmp_path):
    """A mask that selects nothing: what detection models do when they find nothing."""

    def function(x):
        places = mb().non_zero(x=mb().greater(x=x, y=SINGLE(1)), name="places")
        found = mb().gather_nd(x=x, indices=places, name="found")
        padded = mb().concat(values=[found, np.array([7, 8], SINGLE)], axis=0, name="padded")
        scaled = mb().relu(x=mb().mul(x=found, y=SINGLE(3)))
        return (
            places,
            found,
            padded,
            mb().reduce_sum(x=found, keep_dims=False, name="sum"),
            mb().shape(x=found, name="size"),
            mb().expand_dims(x=scaled, axes=[1], name="column"),
            mb().matmul(
                x=np.ones((4, 1), SINGLE), y=mb().expand_dims(x=scaled, axes=[0]), name="product"
            ),
            mb().cumsum(x=found, name="running"),
            mb().tile(x=found, reps=[3], name="tiled"),
        )

    program = Program.load(save(tmp_path / "m.mlpackage", function, "iOS17", x=spec(2, 3)))
    for x in (np.zeros((2, 3), SINGLE), np.array([[0, 2, 0], [5, 0, 0]], SINGLE)):
        outputs, found = program.run({"x": x}), x[x > 1]
        want = {
            "places": np.argwhere(x > 1).astype(INT),
            "found": found,
            "padded": np.append(found, [7, 8]),
            "sum": found.sum(),
            "size": np.array(found.shape, INT),
            "column": 3 * found[:, None],
            "product": np.ones((4, 1)) @ (3 * found[None]),
            "running": found.cumsum(),
            "tiled": np.tile(found, 3),
        }
        for name, value in want.items():
            assert outputs[name].shape == np.shape(value)
            np.testing.assert_array_equal(outputs[name], value)
