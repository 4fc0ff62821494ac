"""Lists of tensors in whole programs: as coremltools writes them, also carried through a loop."""

import numpy as np
import pytest
from pte_foundry.errors import ProgramError
from pte_foundry.mil import Program

from tests.mil.mil_cases import INT, SINGLE
from tests.mil.test_mil_program import changed, mb, save, spec

A, B = np.array([1, 3], SINGLE), np.array([2, 4], SINGLE)


def write_and_read(a, b):
    """coremltools' own test of these operations, which it runs on Core ML."""
    ls = mb().make_list(init_length=2, elem_shape=(2,), name="made")
    first = mb().list_read(ls=ls, index=0, name="unwritten")
    ls = mb().list_write(ls=ls, index=0, value=a)
    ls = mb().list_write(ls=ls, index=4, value=b, name="longer")
    ls = mb().list_scatter(ls=ls, indices=[2, 1], value=np.array([[-1, -2], [-4, -5]], SINGLE))
    return (
        first,
        mb().list_read(ls=ls, index=0, name="read"),
        mb().list_gather(ls=ls, indices=[4, 2, 3], name="gathered"),
        mb().list_length(ls=ls, name="length"),
    )


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lists") / "m.mlpackage"
    return save(folder, write_and_read, "iOS15", a=spec(2), b=spec(2))


def test_lists_are_written_read_and_grow(lists):
    outputs = Program.load(lists).run({"a": A, "b": B})
    assert outputs["unwritten"].tolist() == [0, 0]
    assert outputs["read"].tolist() == [1, 3]
    assert outputs["gathered"].tolist() == [[2, 4], [-1, -2], [0, 0]]
    assert (outputs["length"].dtype, outputs["length"].shape, outputs["length"]) == (INT, (), 5)


def test_taps_see_tensors_only(lists):
    program, seen = Program.load(lists), []
    program.run({"a": A, "b": B}, tap=lambda name, value: seen.append((name, value.shape)))
    assert [name for name, _ in seen] == ["unwritten", "read", "gathered", "length"]
    assert program.operation("longer").op == "list_write"
    assert str(program.operation("longer").outputs[0].type) == "list[fp32[2]]"


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_loop_carries_a_list(tmp_path, steps):
    def function(count, update):
        count = mb().squeeze(x=count)

        def body(i, ls):
            value = mb().mul(x=update, y=mb().cast(x=i, dtype="fp32"))
            return mb().add(x=i, y=INT(1)), mb().list_write(ls=ls, index=i, value=value)

        _, ls = mb().while_loop(
            _cond=lambda i, _: mb().less(x=i, y=count),
            _body=body,
            loop_vars=(INT(0), mb().make_list(init_length=1, elem_shape=(2,))),
        )
        length = mb().list_length(ls=ls)
        return mb().list_gather(
            ls=ls, indices=mb().range_1d(start=0, end=length, step=1), name="out"
        )

    package = save(tmp_path / "m.mlpackage", function, count=spec(1, dtype="int32"), update=spec(2))
    program = Program.load(package)
    got = program.run({"count": np.array([steps], INT), "update": np.array([1, 2], SINGLE)})["out"]
    assert got.tolist() == [[i, 2 * i] for i in range(max(steps, 1))]


@pytest.mark.parametrize("dtype", ["int32", "bool", "fp16", "fp32"])
def test_lists_hold_every_type_that_make_list_names(tmp_path, dtype):
    def function(x):
        ls = mb().make_list(init_length=2, dynamic_length=False, elem_shape=(2,), dtype=dtype)
        ls = mb().list_write(ls=ls, index=1, value=mb().cast(x=x, dtype=dtype))
        both = mb().list_gather(ls=ls, indices=[0, 1])
        return mb().cast(x=both, dtype="fp32", name="out")

    program = Program.load(save(tmp_path / "m.mlpackage", function, x=spec(2)))
    assert program.run({"x": np.ones(2, SINGLE)})["out"].tolist() == [[0, 0], [1, 1]]


def symbolic(x, index):
    ls = mb().make_list(init_length=2, elem_shape=("rows", 2), name="made")
    ls = mb().list_write(ls=ls, index=1, value=x)
    return mb().list_read(ls=ls, index=mb().squeeze(x=index), name="out")


def test_the_first_written_element_settles_an_open_shape(tmp_path):
    package = save(tmp_path / "m.mlpackage", symbolic, x=spec(3, 2), index=spec(1, dtype="int32"))
    program = Program.load(package)
    x = np.ones((3, 2), SINGLE)
    for index in (0, 1):
        got = program.run({"x": x, "index": np.array([index], INT)})["out"]
        np.testing.assert_array_equal(got, index * x)
    with pytest.raises(ProgramError, match="element 2 of a list of 2"):
        program.run({"x": x, "index": np.array([2], INT)})


def test_nothing_gathered_is_an_empty_tensor(tmp_path):
    def function(x):
        ls = mb().list_write(ls=mb().make_list(elem_shape=(3,)), index=0, value=x)
        return mb().list_gather(ls=ls, indices=np.zeros(0, INT), name="out")

    program = Program.load(save(tmp_path / "m.mlpackage", function, x=spec(3)))
    assert program.run({"x": np.ones(3, SINGLE)})["out"].shape == (0, 3)


def _fixed(a, index):
    ls = mb().make_list(init_length=2, dynamic_length=False, elem_shape=(2,))
    ls = mb().list_write(ls=ls, index=mb().squeeze(x=index), value=a)
    return mb().list_length(ls=ls, name="out")


@pytest.mark.parametrize("index", [-1, 2])
def test_a_fixed_list_does_not_grow(tmp_path, index):
    package = save(tmp_path / "m.mlpackage", _fixed, a=spec(2), index=spec(1, dtype="int32"))
    with pytest.raises(ProgramError, match=f"list_write .*: element {index} of a list of 2"):
        Program.load(package).run({"a": A, "index": np.array([index], INT)})


def _redirect(key, source):
    def change(spec, block):
        (user,) = (o for o in block.operations if o.outputs[0].name == "read")
        user.inputs[key].arguments[0].name = source

    return change


def _huge(spec, block):
    for operation in block.operations:
        if operation.outputs[0].name == "made_init_length_0":
            operation.attributes["val"].immediateValue.tensor.ints.values[0] = 2**30


def _give_the_list(spec, block):
    block.outputs[0] = "made"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_redirect("ls", "a"), "list_read 'read' failed: not a list"),
        (_redirect("index", "made"), "list_read 'read' failed"),
        (_huge, "make_list 'made' failed: a list of 1073741824 elements"),
        (_give_the_list, r"the output 'made' is a list\[fp32\[2\]\], expected a tensor"),
    ],
)
def test_damage_gives_typed_errors(lists, change, message):
    with pytest.raises(ProgramError, match=message):
        Program.from_parts(changed_model(lists, change), None).run({"a": A, "b": B})


def changed_model(package, change):
    weights = package / "Data" / "com.apple.CoreML" / "weights"
    weights.mkdir(exist_ok=True)
    (weights / "weight.bin").touch()
    return changed(package, change)[0]
