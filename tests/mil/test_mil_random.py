"""Random tensors: shapes, dtypes, ranges and distributions as documented, and the same every run.

The numbers are not Apple's and are not compared with any: the bounds are six standard errors wide,
and the seeds are fixed, so these tests are not flaky.
"""

import numpy as np
import pytest
from pte_foundry.errors import ProgramError
from pte_foundry.mil import Program

from tests.mil.mil_cases import HALF, INT, SINGLE, compute
from tests.mil.test_mil_program import mb, save, spec

SHAPE = np.array([40, 250], INT)
COUNT = 10_000


def draw(op, **arguments):
    (values,) = compute(op, "iOS15", {"seed": 7, **arguments})
    return values


def assert_near(got, want, deviation):
    assert abs(got - want) < 6 * deviation / np.sqrt(COUNT)


@pytest.mark.parametrize("dtype", [HALF, SINGLE])
def test_uniform(dtype):
    values = draw("random_uniform", shape=SHAPE, low=dtype(-1), high=dtype(3))
    assert (values.dtype, values.shape) == (dtype, (40, 250))
    assert -1 <= values.min() < -0.9
    assert 2.9 < values.max() <= 3  # by rounding, as in Core ML
    assert_near(values.astype(np.float64).mean(), 1, 4 / np.sqrt(12))
    assert_near((values < 0).mean(), 0.25, 0.5)


def test_uniform_reaches_its_upper_bound_by_rounding():
    """As in Core ML (apple/coremltools#2568), so that an index made of it can be out of range."""
    # Between 1024 and 1025 fp16 has no number.
    values = draw("random_uniform", shape=SHAPE, low=HALF(1024), high=HALF(1025))
    assert np.unique(values).tolist() == [1024, 1025]


def test_uniform_of_an_empty_interval_is_its_bound_and_of_a_reversed_one_an_error():
    assert np.unique(draw("random_uniform", shape=SHAPE, low=2.0, high=2.0)).tolist() == [2]
    with pytest.raises(ValueError, match="undefined"):
        draw("random_uniform", shape=SHAPE, low=2.0, high=1.0)


@pytest.mark.parametrize("dtype", [HALF, SINGLE])
def test_normal(dtype):
    values = draw("random_normal", shape=SHAPE, mean=dtype(2), stddev=dtype(0.5))
    assert (values.dtype, values.shape) == (dtype, (40, 250))
    z = (values.astype(np.float64) - 2) / 0.5
    assert_near(z.mean(), 0, 1)
    assert_near((z**2).mean(), 1, np.sqrt(2))
    assert_near((z**4).mean(), 3, np.sqrt(96))
    assert_near((z < -1).mean(), 0.1587, 0.365)


@pytest.mark.parametrize("dtype", [HALF, SINGLE])
@pytest.mark.parametrize("prob", [0, 0.25, 1])
def test_bernoulli(dtype, prob):
    values = draw("random_bernoulli", shape=SHAPE, prob=dtype(prob))
    assert (values.dtype, values.shape) == (dtype, (40, 250))
    assert set(np.unique(values)) <= {0, 1}
    assert abs(values.astype(np.float64).mean() - prob) <= 0.03 * (0 < prob < 1)


@pytest.mark.parametrize("dtype", [HALF, SINGLE])
@pytest.mark.parametrize("mode", ["probs", "logits"])
def test_categorical(mode, dtype):
    shares = np.array([[0.5, 0, 0.2, 0.3, 0], [0, 0, 0, 0.25, 0.75]], dtype)
    with np.errstate(divide="ignore"):
        x = shares if mode == "probs" else np.log(shares) + dtype(1)
    values = draw("random_categorical", x=x, mode=mode, size=COUNT)
    assert (values.dtype, values.shape) == (dtype, (2, COUNT))
    for drawn, wanted in zip(values, shares.astype(np.float64), strict=True):
        counts = np.bincount(drawn.astype(int), minlength=5)
        assert (counts[wanted == 0] == 0).all()
        assert (np.abs(counts / COUNT - wanted) < 6 * 0.5 / np.sqrt(COUNT)).all()


def test_categorical_takes_one_distribution_and_draws_once_by_default():
    assert draw("random_categorical", x=np.array([-100, 100], SINGLE)).tolist() == [1]
    with pytest.raises(ValueError, match="no positive sum"):
        draw("random_categorical", x=np.zeros(2, SINGLE), mode="probs")
    with pytest.raises(ValueError, match="unknown mode 'odds'"):
        draw("random_categorical", x=np.zeros(2, SINGLE), mode="odds")


def test_scalars_and_empty_tensors():
    assert draw("random_normal", shape=np.zeros(0, INT)).shape == ()
    assert draw("random_uniform", shape=np.array([0, 3], INT)).shape == (0, 3)


def test_a_seed_gives_its_numbers_and_another_gives_others():
    arguments = {"shape": SHAPE}
    first = draw("random_normal", **arguments)
    np.testing.assert_array_equal(first, draw("random_normal", **arguments))
    for seed in (0, 8, -2, -(2**31), 2**31 - 1):
        assert (first != draw("random_normal", **arguments, seed=INT(seed))).any()


def test_these_are_the_numbers_of_every_machine():
    values = draw("random_uniform", shape=np.array([3], INT))
    np.testing.assert_array_equal(values, np.array([0.6250955, 0.8972138, 0.77568567], SINGLE))


def test_a_run_without_seeds_repeats_itself_but_its_operations_differ(tmp_path):
    def function(x):
        first = mb().random_uniform(shape=[2, 3], name="first")
        second = mb().random_uniform(shape=[2, 3], name="second")
        _, total = mb().while_loop(
            _cond=lambda i, _: mb().less(x=i, y=INT(2)),
            _body=lambda i, t: (
                mb().add(x=i, y=INT(1)),
                mb().sub(x=mb().random_uniform(shape=[2, 3]), y=t),
            ),
            loop_vars=(INT(0), mb().mul(x=second, y=SINGLE(0))),
        )
        seeded = mb().random_normal(shape=[2], seed=3, mean=HALF(1), stddev=HALF(2), name="seeded")
        return first, second, mb().add(x=total, y=x, name="difference"), seeded

    package = save(tmp_path / "m.mlpackage", function, x=spec(1))
    runs = [
        program.run({"x": np.zeros(1, SINGLE)})
        for program in (Program.load(package), Program.load(package))
        for _ in range(2)
    ]
    for run in runs[1:]:
        for name, value in run.items():
            np.testing.assert_array_equal(value, runs[0][name])
    assert (runs[0]["first"] != runs[0]["second"]).all()
    assert (runs[0]["difference"] != 0).all()
    assert runs[0]["seeded"].dtype == HALF


def test_an_absurd_shape_is_a_typed_error(tmp_path):
    def function(shape):
        return mb().random_uniform(shape=shape, name="out")

    program = Program.load(save(tmp_path / "m.mlpackage", function, shape=spec(2, dtype="int32")))
    assert program.run({"shape": np.array([2, 3], INT)})["out"].shape == (2, 3)
    for shape in ([2**30, 2**30], [-1, 2]):
        with pytest.raises(ProgramError, match="random_uniform 'out' failed"):
            program.run({"shape": np.array(shape, INT)})
