"""Protects the rules for outputs that a ratio of powers does not fit: zeros, constants, masks."""

import math

import pytest
import torch
from pte_foundry.validate.metrics_schema import SQNR_CAP_DB
from pte_foundry.validate.output_metrics import compare_output


def compared(outputs: list, reference: list, dtype: torch.dtype | None = None) -> dict:
    """One output over samples, from lists of values."""
    ours, theirs = (
        [torch.as_tensor(v, dtype=dtype) for v in side] for side in (outputs, reference)
    )
    return compare_output("y", list(zip(ours, theirs, strict=True)))


@pytest.mark.parametrize(
    ("noise", "db"),
    [(0.0, SQNR_CAP_DB), (1e-9, 180.0), (1e-3, 60.0), (1.0, 0.0), (10.0, -20.0)],
)
def test_a_reference_of_zeros_is_judged_by_absolute_error(noise, db):
    """x - x is 1e-9 in one order of summation: no failure. An output of ones is one."""
    found = compared([[noise, -noise]] * 2, [[0.0, 0.0]] * 2, torch.float64)
    assert found["sqnr_db"] == pytest.approx(db, abs=1e-6)
    assert found["max_abs_error"] == noise
    assert found["constant"] is True
    assert found["cosine"] == (None if noise else 1.0), "zeros have no direction"


def test_zeros_in_place_of_a_signal_have_no_decibels():
    found = compared([[0.0, 0.0]], [[3.0, 4.0]])
    assert (found["sqnr_db"], found["cosine"]) == (pytest.approx(0.0), 0.0)
    assert "constant" not in found


def test_a_silent_sample_is_judged_by_the_power_of_the_others():
    """Its noise of -60 dB is not infinitely worse than its signal of nothing."""
    found = compared([[100.0], [0.1]], [[100.0], [0.0]], torch.float64)
    assert found["worst"] == {
        "sample": 1,
        "sqnr_db": pytest.approx(56.99, abs=0.01),
        "cosine": None,
    }
    assert found["cosine"] == 1.0


def test_a_constant_reference_is_judged_like_any_other():
    """The output of a bias alone, rounded to fp16."""
    bias = torch.full((3,), 0.1)
    found = compare_output("y", [(bias.half(), bias)] * 4)
    assert found["constant"] is True
    assert 66 < found["sqnr_db"] < 80
    wrong = compare_output("y", [(bias * 1.01, bias)] * 4)
    assert wrong["sqnr_db"] == pytest.approx(40.0, abs=0.01)


def test_a_single_element():
    assert compared([2.0], [2.0])["sqnr_db"] == SQNR_CAP_DB
    assert compared([1.0], [2.0])["sqnr_db"] == pytest.approx(6.02, abs=0.01)
    assert compared([[-2.0]], [[2.0]])["cosine"] == -1.0


def test_infinities_on_both_sides_are_a_mask():
    found = compared([[-math.inf, 9.0]], [[-math.inf, 10.0]])
    assert (found["sqnr_db"], found["max_abs_error"]) == (pytest.approx(20.0), 1.0)
    assert compared([[-math.inf]], [[-math.inf]])["sqnr_db"] == SQNR_CAP_DB


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (math.inf, 1.0),
        (1.0, math.inf),
        (-math.inf, math.inf),
        (math.nan, 1.0),
        (1.0, math.nan),
        (math.nan, math.nan),
        (math.nan, 0.0),
    ],
)
def test_anything_else_that_is_not_finite_has_no_distance(ours, theirs):
    found = compared([[1.0, 2.0], [ours, 2.0]], [[1.0, 2.0], [theirs, 2.0]])
    assert found["sqnr_db"] is found["cosine"] is found["max_abs_error"] is None
    assert found["worst"]["sample"] == 1
    assert "sample 1" in found["problem"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_no_elements_are_equal(dtype):
    empty = torch.zeros(0, 4, dtype=dtype)
    found = compare_output("y", [(empty, empty)] * 2)
    assert (found["sqnr_db"], found["equal_fraction"]) in ((SQNR_CAP_DB, None), (None, 1.0))
    assert found["max_abs_error"] == 0
    assert found["shape"] == [0, 4]


def test_sizes_may_differ_between_samples_but_not_between_sides():
    rows = [torch.ones(3, 2), torch.ones(0, 2), torch.full((1, 2), 2.0)]
    found = compare_output("y", [(row, row) for row in rows])
    assert (found["sqnr_db"], found["shape"]) == (SQNR_CAP_DB, [None, 2])
    assert (
        compare_output("y", [(torch.ones(2), torch.ones(2)), (torch.ones(1, 2),) * 2])["shape"]
        is None
    )


@pytest.mark.parametrize(
    "ours", [torch.int32, torch.int64, torch.uint8, torch.float32, torch.int16]
)
@pytest.mark.parametrize("theirs", [torch.int32, torch.int64, torch.bool, torch.uint8])
def test_integers_are_compared_by_value_whatever_their_dtypes(ours, theirs):
    out, ref = torch.tensor([[1, 0, 1, 0]], dtype=ours), torch.tensor([[1, 0, 0, 0]], dtype=theirs)
    found = compare_output("y", [(out, ref)])
    assert (found["equal_fraction"], found["max_abs_error"]) == (0.75, 1)
    assert found["dtype"] == str(theirs).removeprefix("torch.")
    assert found["worst"] == {"sample": 0, "sqnr_db": None, "cosine": None, "equal_fraction": 0.75}


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64, torch.int8])
def test_integers_that_torch_hardly_computes_with(dtype):
    out, ref = torch.tensor([1, 2]).to(dtype), torch.tensor([1, 3]).to(dtype)
    assert compare_output("y", [(out, ref)])["equal_fraction"] == 0.5


def test_large_integers_are_compared_exactly():
    """float64 does not tell 2**62 from 2**62 + 1, and their distance may exceed int64."""
    found = compared([[2**62 + 1, 2**63 - 1]], [[2**62, -(2**63)]])
    assert found["equal_fraction"] == 0.0
    assert found["max_abs_error"] == 2**64 - 1


def test_a_float_in_place_of_an_integer():
    found = compared([[1.0, 2.5, math.nan]], [[1, 2, 3]])
    assert found["equal_fraction"] == pytest.approx(1 / 3)
    assert found["max_abs_error"] is None, "a nan has no distance"


def test_complex_numbers_count_both_parts():
    ref = torch.tensor([3 + 4j])
    assert compare_output("y", [(ref.conj(), ref)])["sqnr_db"] == pytest.approx(-4.08, abs=0.01)
