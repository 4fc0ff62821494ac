"""Protects the numbers that everything is judged by: right, finite or null, and repeatable."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pte_foundry.errors import InputError
from pte_foundry.validate.gates import judge
from pte_foundry.validate.metrics import SQNR_CAP_DB, compare

FLOATS = st.floats(-1e6, 1e6, width=32)


def one(*values: float, dtype: torch.dtype = torch.float32) -> list[tuple[torch.Tensor]]:
    return [(torch.tensor([values], dtype=dtype),)]


def test_sqnr_by_hand():
    """100 : 1 in power is 20 dB; the sums run over outputs and samples before the ratio."""
    reference = [(torch.tensor([6.0]), torch.tensor([[0.0]])), (torch.tensor([8.0]),)]
    outputs = [(torch.tensor([6.0]), torch.tensor([[0.6]])), (torch.tensor([7.2]),)]
    found = compare(outputs, reference)
    assert found["sqnr_db"] == pytest.approx(20.0, abs=1e-5)
    assert found["max_abs_error"] == pytest.approx(0.8)


def test_cosine_is_the_mean_of_samples():
    reference = [(torch.tensor([1.0, 0.0]),), (torch.tensor([1.0, 0.0]),)]
    outputs = [(torch.tensor([2.0, 0.0]),), (torch.tensor([0.0, 3.0]),)]
    assert compare(outputs, reference)["cosine"] == pytest.approx(0.5)


def test_worst_sample_is_named():
    """A mean over many good samples has hidden broken models."""
    reference = [(torch.ones(8),)] * 50
    outputs = [(torch.ones(8),)] * 49 + [(-torch.ones(8),)]
    found = compare(outputs[::-1], reference)
    assert found["worst"] == {
        "sample": 0,
        "sqnr_db": pytest.approx(-6.0206, abs=1e-4),
        "cosine": pytest.approx(-1),
    }


def test_equal_outputs_reach_the_cap():
    found = compare(one(1, 2), one(1, 2))
    assert found["sqnr_db"] == SQNR_CAP_DB
    assert found["cosine"] == pytest.approx(1.0)
    assert found["max_abs_error"] == 0.0


def test_zeros():
    """All-zero sides have no direction: equal is 1, one-sided is 0; nothing divides by zero."""
    assert compare(one(0, 0), one(0, 0))["cosine"] == 1.0
    found = compare(one(1, 0), one(0, 0))
    assert (found["sqnr_db"], found["cosine"]) == (-SQNR_CAP_DB, 0.0)
    assert compare(one(0, 0), one(3, 4))["sqnr_db"] == pytest.approx(0.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("broken", ["outputs", "reference"])
def test_broken_values_have_no_score_and_fail_every_gate(bad, broken):
    good, wrong = one(1, 2) * 3, one(1, 2) * 2 + one(bad, 2)
    sides = (wrong, good) if broken == "outputs" else (good, wrong)
    found = compare(*sides)
    assert found["sqnr_db"] is found["cosine"] is found["max_abs_error"] is None
    assert found["worst"]["sample"] == 2
    assert judge(found, {"sqnr_db": {"min": -1000}})[1] == "fail"
    json.dumps(found, allow_nan=False)


def test_a_nan_never_agrees():
    assert compare(one(math.nan, 2), one(1, 2))["top1_agreement"] == 0.0


def test_masks_in_common_are_equal():
    """A reference that holds -inf on purpose still has a distance to its copies."""
    found = compare(one(-math.inf, 9), one(-math.inf, 10))
    assert found["sqnr_db"] == pytest.approx(20.0)
    assert found["max_abs_error"] == 1.0


def test_top1_agreement():
    reference = [(torch.tensor([[1.0, 3, 2], [9, 0, 0]]),)]
    outputs = [(torch.tensor([[1.0, 2, 3], [7, 0, 0]]),)]
    assert compare(outputs, reference)["top1_agreement"] == 0.5


def test_top1_agreement_counts_positions_of_the_first_output_alike():
    ours, theirs = torch.zeros(1, 4, 5), torch.zeros(1, 4, 5)
    ours[0, 0, 3] = 1
    found = compare([(ours, torch.ones(2))], [(theirs, torch.zeros(2))])
    assert found["top1_agreement"] == 0.75


def test_top1_agreement_over_rows():
    outputs, reference = [(torch.eye(3),)], [(torch.eye(3)[[0, 1, 1]],)]
    assert compare(outputs, reference)["top1_agreement"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("shape", [(), (4, 1), (0, 3)])
def test_top1_agreement_needs_classes(shape):
    tensor = [(torch.zeros(shape),)]
    assert compare(tensor, tensor)["top1_agreement"] is None


def test_ties_take_the_first_class_on_both_sides():
    assert compare(one(1, 1, 1), one(1, 1, 1))["top1_agreement"] == 1.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_dtypes_may_differ(dtype):
    assert compare(one(1, 3, dtype=dtype), one(1, 3))["sqnr_db"] == SQNR_CAP_DB


def test_large_values_do_not_overflow():
    """fp32's largest values squared leave fp32's range, not float64's."""
    assert compare(one(3e38, 1), one(3e38, 1.5))["sqnr_db"] == SQNR_CAP_DB
    assert compare(one(3e38, 1), one(2.9e38, 1))["sqnr_db"] == pytest.approx(29.248, abs=1e-2)


def test_layout_does_not_matter():
    a, b = torch.randn(3, 5), torch.randn(3, 5)
    turned = [(a.t().contiguous().t(),)], [(b.t().contiguous().t(),)]
    assert compare(*turned) == compare([(a,)], [(b,)])


def test_threads_do_not_matter():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(1, 300_001, generator=generator) for _ in range(2))
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 7):
            torch.set_num_threads(threads)
            found.append(compare([(a,)], [(b,)]))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=20))
def test_scores_stay_in_their_ranges(pairs):
    outputs, reference = (torch.tensor([side]) for side in zip(*pairs, strict=True))
    found = compare([(outputs,)], [(reference,)])
    assert -SQNR_CAP_DB <= found["sqnr_db"] <= SQNR_CAP_DB
    assert -1 <= found["cosine"] <= 1
    assert found["max_abs_error"] == (reference.double() - outputs.double()).abs().max()


@pytest.mark.parametrize(
    ("outputs", "reference", "says"),
    [
        ([], [], "no samples"),
        (one(1) * 2, one(1), "2 samples of outputs against 1"),
        (one(1, 2), one(1), r"Sample 0: outputs of shapes \[\(1, 2\)\].* \[\(1, 1\)\]"),
        ([(torch.ones(1), torch.ones(1))], [(torch.ones(1),)], "Sample 0"),
        ([()], [()], "no outputs"),
    ],
)
def test_mismatches_are_errors(outputs, reference, says):
    """Broadcasting would compare the wrong numbers and call it a score."""
    with pytest.raises(InputError, match=says):
        compare(outputs, reference)
