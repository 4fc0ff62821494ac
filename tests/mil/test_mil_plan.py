"""Protects later runs on inputs of the same shapes: they follow a plan and change no bit.

A run with a tap follows no plan, so it gives the expected results. ``test_mil_dtypes.py`` runs
every operation by a plan.
"""

from collections import Counter

import numpy as np
import pytest
from pte_foundry.errors import LimitError, ProgramError
from pte_foundry.limits import Limits
from pte_foundry.mil import Program, plan

from tests.fuzz.mil_programs import MilProgram
from tests.mil.mil_cases import HALF, INT, SINGLE
from tests.mil.test_mil_program import mb, save, spec

WIDTH, SLOTS = 8, 4


@pytest.fixture
def followed(monkeypatch):
    """Counts the runs that follow a plan, and those that leave it."""
    counts = Counter()
    follow = plan._followed

    def spy(made, scope):
        inner = made.follow

        def counted(*arguments):
            result = inner(*arguments)
            counts["to the end" if result[0] is None else "left"] += 1
            return result

        made.follow = counted
        try:
            return follow(made, scope)
        finally:
            made.follow = inner

    monkeypatch.setattr(plan, "_followed", spy)
    return counts


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    """A decoder's block: norm, three linears of it, a cache of keys in a state, attention."""
    from coremltools.converters.mil.mil import types

    def function(x, row, keys):
        squares = mb().reduce_mean(x=mb().mul(x=x, y=x), axes=[-1], keep_dims=True)
        largest = mb().reduce_max(x=mb().abs(x=x), axes=[-1], keep_dims=True)
        normal = mb().real_div(x=x, y=mb().add(x=mb().sqrt(x=squares), y=largest))
        weights = [random(n, WIDTH, WIDTH).astype(HALF) for n in range(3)]
        query = mb().linear(x=normal, weight=weights[0])
        query = mb().silu(x=mb().concat(values=mb().split(x=query, num_splits=2, axis=-1), axis=-1))
        key = mb().linear(x=normal, weight=weights[1])
        value = mb().linear(x=normal, weight=weights[2], bias=random(3, WIDTH).astype(HALF))
        slots = mb().const(val=np.arange(SLOTS, dtype=INT).reshape(SLOTS, 1))
        chosen = mb().tile(x=mb().equal(x=slots, y=row), reps=[1, WIDTH])
        held = mb().read_state(input=keys)
        held = mb().select(cond=chosen, a=mb().add(x=held, y=key), b=held)
        held = mb().coreml_update_state(state=keys, value=held)
        scores = mb().softmax(x=mb().matmul(x=query, y=held, transpose_y=True), axis=-1)
        mixed = mb().add(x=mb().matmul(x=scores, y=held), y=value, name="out")
        return mixed, mb().expand_dims(x=held, axes=[0], name="view")

    state = mb().StateTensorSpec((SLOTS, WIDTH), dtype=types.fp16)
    inputs = {"x": spec(1, WIDTH, dtype="fp16"), "row": spec(1, dtype="int32"), "keys": state}
    return save(tmp_path_factory.mktemp("cached") / "m.mlpackage", function, **inputs)


def test_a_conversation_with_a_state_is_the_same_to_the_bit(cached, followed):
    runs = []
    for tap in (lambda *value: None, None):
        program = Program.load(cached)
        state, results = program.make_state(), []
        for number in range(7):
            x, row = random(number, 1, WIDTH).astype(HALF), np.array([number % SLOTS], INT)
            outputs = program.run({"x": x, "row": row}, state=state, tap=tap)
            results += [outputs["out"], outputs["view"], state["keys"].copy()]
        runs.append(results)
    assert followed == {"to the end": 5}
    for expected, found in zip(*runs, strict=True):
        assert expected.dtype == found.dtype
        np.testing.assert_array_equal(expected, found)


def test_outputs_keep_their_values_while_later_runs_write_the_state(cached):
    program = Program.load(cached)
    state, kept = program.make_state(), []
    for number in range(5):
        x, row = random(number, 1, WIDTH).astype(HALF), np.array([number % SLOTS], INT)
        view = program.run({"x": x, "row": row}, state=state)["view"]
        kept.append((view, view.copy()))
    for view, copy in kept:
        np.testing.assert_array_equal(view, copy)


def test_what_was_read_before_a_write_stays_what_it_was(tmp_path, followed):
    """``old`` and a view of it are used after the write, so the read is copied in a plan too."""
    from coremltools.converters.mil.mil import types

    def function(x, total):
        old = mb().read_state(input=total)
        view = mb().reshape(x=old, shape=[2, 1])
        new = mb().coreml_update_state(state=total, value=mb().add(x=old, y=x))
        return mb().sub(x=mb().reshape(x=new, shape=[2, 1]), y=view, name="out")

    state = mb().StateTensorSpec((2,), dtype=types.fp16)
    inputs = {"x": spec(2, dtype="fp16"), "total": state}
    program = Program.load(save(tmp_path / "m.mlpackage", function, **inputs))
    held = program.make_state()
    for number in range(1, 5):
        x = np.full(2, number, HALF)
        np.testing.assert_array_equal(program.run({"x": x}, state=held)["out"], x.reshape(2, 1))
    assert followed == {"to the end": 2}


def test_a_result_of_another_shape_leaves_the_plan(tmp_path, followed):
    def function(x):
        places = mb().non_zero(x=x)  # as many rows as the values have it
        taken = mb().gather(x=x, indices=mb().squeeze(x=places, axes=[1]), axis=0)
        return mb().exp(x=taken, name="out"), mb().linear(x=x, weight=np.eye(4, dtype=HALF))

    program = Program.load(save(tmp_path / "m.mlpackage", function, x=spec(4, dtype="fp16")))
    for values in ([1, 0, 2, 0], [0, 3, 0, 4], [5, 0, 0, 6], [1, 2, 3, 4], [0, 0, 1, 0]):
        x = np.array(values, HALF)
        out = program.run({"x": x})["out"]
        np.testing.assert_array_equal(out, np.exp(x[x != 0].astype(SINGLE)).astype(HALF))
    assert followed == {"to the end": 1, "left": 2}


def test_errors_in_a_plan_name_the_operation(tmp_path, followed):
    def function(x):
        doubled = mb().add(x=x, y=x)
        return mb().gather(x=doubled, indices=mb().cast(x=x, dtype="int32"), axis=0, name="taken")

    program = Program.load(save(tmp_path / "m.mlpackage", function, x=spec(2)))
    for _ in range(3):
        program.run({"x": np.array([0, 1], SINGLE)})
    assert followed == {"to the end": 1}
    with pytest.raises(ProgramError, match=r"^gather 'taken' failed: indices 0\.\.2 of 2 elements"):
        program.run({"x": np.array([2, 0], SINGLE)})
    out = program.run({"x": np.array([1, 0], SINGLE)})["taken"]
    np.testing.assert_array_equal(out, np.array([0, 2], SINGLE))


def test_limits_hold_in_a_plan(followed):
    made = MilProgram().input("x")
    for number in range(40):
        made.op("add", [(f"y{number}", "FLOAT32", [2])], x="x", y="x")
    program = Program.from_parts(made.end("y39").bytes(), None, Limits(steps=40))
    x = {"x": np.ones(2, SINGLE)}
    for _ in range(3):
        program.run(x)
    assert followed == {"to the end": 1}
    program._limits = Limits(steps=30)
    with pytest.raises(LimitError, match=r"add 'y\d+' failed: .* within 30 instructions"):
        program.run(x)
    program._limits = Limits(seconds=-1)
    with pytest.raises(LimitError, match=r"add 'y\d+' failed: .* within -1 seconds"):
        program.run(x)


def test_sizes_that_are_computed_are_limited_in_every_run(followed):
    """A size from a value: small in the run that is recorded, huge in a later one."""
    made = MilProgram().input("x", "INT32", [1])
    made.op("fill", [("y", "FLOAT32", [None])], shape="x", value=("FLOAT32", [1.0], ()))
    program = Program.from_parts(made.end("y").bytes(), None, Limits(memory=100 << 20))
    for _ in range(3):
        assert program.run({"x": np.array([3], INT)})["y"].shape == (3,)
    with pytest.raises(LimitError, match=r"^fill 'y' failed: a value of"):
        program.run({"x": np.array([2**31 - 1], INT)})
    assert program.run({"x": np.array([4], INT)})["y"].shape == (4,)
    assert followed == {"to the end": 1, "left": 1}


def test_a_function_remembers_the_shapes_used_last(followed):
    made = MilProgram().input("x", "FLOAT32", [None])
    made.op("relu", [("y", "FLOAT32", [None])], x="x")
    program = Program.from_parts(made.end("y").bytes(), None)
    for size in [*range(1, 40), 1, 1, 1]:
        assert program.run({"x": np.ones(size, SINGLE)})["y"].shape == (size,)
    assert len(program._blocks["main"].plans) <= plan._PLANS + 1
    assert followed == {"to the end": 1}
