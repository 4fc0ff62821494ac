"""Protects sharing of memory: functions share weights, outputs share nothing."""

import numpy as np
import pytest
import torch
from pte_foundry.mil import Program, build

from tests.mil.mil_cases import HALF, SINGLE, coremltools
from tests.mil.test_mil_program import mb, save, spec

LEVELS = np.arange(-32, 32).reshape(8, 8)
SCALE = np.linspace(0.5, 1.5, 8, dtype=HALF).reshape(8, 1)
WEIGHT = (LEVELS * SCALE.astype(SINGLE)).astype(HALF)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """Three functions over one int8 weight: a product, two of them, and a gather."""

    def weight():
        return mb().constexpr_blockwise_shift_scale(data=LEVELS.astype(np.int8), scale=SCALE)

    def once(x):
        return mb().linear(x=x, weight=weight(), name="out")

    def twice(x):
        table = weight()
        return mb().linear(x=mb().linear(x=x, weight=table), weight=table, name="out")

    def row(x):
        index = mb().cast(x=mb().reduce_sum(x=x, keep_dims=False), dtype="int32")
        return mb().gather(x=weight(), indices=index, axis=0, name="out")

    ct, folder = coremltools(), tmp_path_factory.mktemp("sharing")
    description = ct.utils.MultiFunctionDescriptor()
    for function in (once, twice, row):
        name = function.__name__
        saved = save(folder / f"{name}.mlpackage", function, x=spec(1, 8, dtype="fp16"))
        description.add_function(str(saved), "main", name)
    description.default_function_name = "once"
    ct.utils.save_multifunction(description, str(folder / "m.mlpackage"))
    return folder / "m.mlpackage"


def test_functions_decompress_and_upcast_a_weight_once_between_them(package, monkeypatch):
    executed, original = [], build.execute

    def spy(instruction, *arguments):
        executed.append(instruction.operation.op)
        return original(instruction, *arguments)

    monkeypatch.setattr(build, "execute", spy)
    program = Program.load(package)
    assert executed == ["constexpr_blockwise_shift_scale"]
    weights = [
        value
        for block in program._blocks.values()
        for instruction in block.instructions
        for key, value in instruction.constants.items()
        if (instruction.operation.op, key) in (("linear", "weight"), ("gather", "x"))
    ]
    products = [weight for weight in weights if weight.dtype == torch.float32]
    assert len(weights) == 4
    assert len({weight.data_ptr() for weight in products}) == 1
    assert len(products) >= 3


def test_functions_that_share_a_weight_compute_the_same_as_alone(package):
    program = Program.load(package)
    x = np.array([[1, 0, 0, 0, 0, 0, 0, 2]], HALF)
    wide = WEIGHT.astype(SINGLE)
    first = (x.astype(SINGLE) @ wide.T).astype(HALF)
    np.testing.assert_array_equal(program.run({"x": x}, "once")["out"], first)
    second = (first.astype(SINGLE) @ wide.T).astype(HALF)
    np.testing.assert_array_equal(program.run({"x": x}, "twice")["out"], second)
    gathered = program.run({"x": x}, "row")["out"]
    assert gathered.dtype == HALF
    np.testing.assert_array_equal(gathered, WEIGHT[3])


def test_weights_that_differ_in_a_scale_alone_are_not_shared(tmp_path):
    def function(x):
        data = LEVELS.astype(np.int8)
        one, two = (
            mb().constexpr_blockwise_shift_scale(data=data, scale=np.full((1, 1), scale, HALF))
            for scale in (1, 2)
        )
        return mb().linear(x=x, weight=one, name="one"), mb().linear(x=x, weight=two, name="two")

    program = Program.load(save(tmp_path / "m.mlpackage", function, x=spec(1, 8, dtype="fp16")))
    outputs = program.run({"x": np.eye(1, 8, dtype=HALF)})
    np.testing.assert_array_equal(outputs["two"], 2 * outputs["one"])
    np.testing.assert_array_equal(outputs["one"], LEVELS[None, :, 0].astype(HALF))


@pytest.fixture
def views(tmp_path):
    """Outputs that are views of a constant, of the input, and of one another."""

    def function(x):
        y = mb().add(x=x, y=SINGLE(1), name="sum")
        return (
            mb().reshape(x=WEIGHT.astype(SINGLE), shape=[64], name="constant"),
            mb().identity(x=x, name="input"),
            y,
            mb().reshape(x=y, shape=[8], name="flat"),
            mb().transpose(x=y, perm=[1, 0], name="turned"),
            mb().slice_by_index(x=y, begin=[0, 2], end=[1, 4], name="part"),
        )

    return Program.load(save(tmp_path / "m.mlpackage", function, x=spec(1, 8)))


def test_writing_to_an_output_changes_nothing_else(views):
    x = np.arange(8, dtype=SINGLE)[None]
    expected = views.run({"x": x})
    for name in expected:
        outputs, tapped = views.run({"x": x}), {}
        kept = views.run({"x": x}, tap=lambda key, value, into=tapped: into.setdefault(key, value))
        for given in (outputs, kept):
            assert given[name].flags.writeable
            given[name][...] = -1
            for other in expected.keys() - {name}:
                np.testing.assert_array_equal(given[other], expected[other])
        assert not (tapped[name] == -1).any()
        np.testing.assert_array_equal(x[0], np.arange(8))
    again = views.run({"x": x})
    for name, value in expected.items():
        np.testing.assert_array_equal(again[name], value)


def test_only_outputs_that_others_could_see_are_copied(views):
    outputs = views.run({"x": np.zeros((1, 8), SINGLE)})
    copied = {name for name, value in outputs.items() if value.flags.owndata}
    assert copied == {"constant", "flat", "turned", "part"}
