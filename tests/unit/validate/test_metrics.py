"""Protects the numbers that everything is judged by: right, finite or null, and repeatable."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pte_foundry.errors import InputError
from pte_foundry.validate.gates import judge
from pte_foundry.validate.metrics import compare
from pte_foundry.validate.metrics_schema import SQNR_CAP_DB

FLOATS = st.floats(-1e6, 1e6, width=32)


def metrics(outputs, reference):
    return compare(outputs, reference).metrics


def one(*values: float, dtype: torch.dtype = torch.float32) -> list[tuple[torch.Tensor]]:
    return [(torch.tensor([values], dtype=dtype),)]


def test_sqnr_by_hand():
    """100 : 1 in power is 20 dB; the sums run over samples before the ratio."""
    found = metrics(one(5.4, dtype=torch.float64) + one(7.2), one(6.0) + one(8.0))
    assert found["sqnr_db"] == pytest.approx(20.0, abs=1e-5)
    assert found["max_abs_error"] == pytest.approx(0.8)


def test_the_worst_output_decides_and_is_named():
    """Boxes in pixels beside scores that are lost: pooled, they had 69 dB."""
    boxes, scores = torch.full((1, 4), 500.0), torch.tensor([[0.25, 0.75]])
    found, outputs = compare(
        [(boxes, scores), (boxes + 0.01, scores * 0)],
        [(boxes, scores)] * 2,
        names=["boxes", "scores"],
    )
    assert [output["name"] for output in outputs] == ["boxes", "scores"]
    assert outputs[0]["sqnr_db"] > 90
    assert outputs[1]["sqnr_db"] == found["sqnr_db"] == pytest.approx(3.0103, abs=1e-4)
    assert found["worst_output"] == "scores"
    assert found["worst"] == {"sample": 1, "sqnr_db": 0.0, "cosine": 0.0, "output": "scores"}
    assert found["cosine"] == outputs[1]["cosine"] == pytest.approx(0.5)


def test_every_metric_is_that_of_the_output_where_it_is_worst():
    """The largest error is in the large output, the lowest SQNR in the small one."""
    reference = [(torch.tensor([1000.0]), torch.tensor([1.0]))]
    found = metrics([(torch.tensor([1001.0]), torch.tensor([0.9]))], reference)
    assert found["max_abs_error"] == pytest.approx(1.0)
    assert found["sqnr_db"] == pytest.approx(20.0, abs=1e-4)


def test_floating_and_integer_outputs_do_not_mix():
    reference = [(torch.tensor([1.0, 2.0]), torch.tensor([70_000, 3]), torch.tensor([True, False]))]
    outputs = [(torch.tensor([1.0, 2.1]), torch.tensor([0, 3]), torch.tensor([True, False]))]
    found, (real, ids, mask) = compare(outputs, reference)
    assert found["equal_fraction"] == ids["equal_fraction"] == 0.5
    assert ids["max_abs_error"] == 70_000
    assert found["max_abs_error"] == real["max_abs_error"] == pytest.approx(0.1)
    assert found["worst_output"] == "output_0", "the one whose SQNR is sqnr_db"
    assert mask["equal_fraction"] == 1.0
    assert real["equal_fraction"] is ids["sqnr_db"] is mask["cosine"] is None


def test_without_floating_outputs_the_worst_is_the_least_equal():
    found = metrics(
        [(torch.tensor([1, 2]), torch.tensor(5))], [(torch.tensor([1, 2]), torch.tensor(7))]
    )
    assert (found["worst_output"], found["equal_fraction"]) == ("output_1", 0.0)
    assert found["sqnr_db"] is found["cosine"] is None
    assert found["max_abs_error"] == 2
    assert found["worst"]["output"] == "output_1"


def test_one_output_without_a_distance_spoils_the_whole():
    good, bad = torch.tensor([1.0]), torch.tensor([math.nan])
    found, outputs = compare([(good, bad)], [(good, good)])
    assert found["sqnr_db"] is found["cosine"] is found["max_abs_error"] is None
    assert found["worst_output"] == "output_1"
    assert outputs[0]["sqnr_db"] == SQNR_CAP_DB


def test_an_output_of_another_shape_is_a_result():
    """nonzero() of a value that fp16 rounds to zero gives a row less."""
    found, outputs = compare(
        [(torch.ones(1), torch.ones(3, 2)), (torch.ones(1), torch.ones(1, 2))],
        [(torch.ones(1), torch.ones(3, 2)), (torch.ones(1), torch.ones(2, 2))],
    )
    assert found["sqnr_db"] is None
    assert "in sample 1 it is [1, 2], the reference's is [2, 2]" in outputs[1]["problem"]
    assert outputs[1]["shape"] == [None, 2]
    assert outputs[0]["sqnr_db"] == SQNR_CAP_DB
    assert judge(found, {"sqnr_db": {"min": -1000}})[1] == "fail"


def test_cosine_is_the_mean_of_samples():
    reference = [(torch.tensor([1.0, 0.0]),), (torch.tensor([1.0, 0.0]),)]
    outputs = [(torch.tensor([2.0, 0.0]),), (torch.tensor([0.0, 3.0]),)]
    assert metrics(outputs, reference)["cosine"] == pytest.approx(0.5)


def test_worst_sample_is_named():
    """A mean over many good samples has hidden broken models."""
    reference = [(torch.ones(8),)] * 50
    outputs = [(torch.ones(8),)] * 49 + [(-torch.ones(8),)]
    found = metrics(outputs[::-1], reference)
    assert found["worst"] == {
        "output": "output_0",
        "sample": 0,
        "sqnr_db": pytest.approx(-6.0206, abs=1e-4),
        "cosine": pytest.approx(-1),
    }


def test_equal_outputs_reach_the_cap():
    found = metrics(one(1, 2), one(1, 2))
    assert found["sqnr_db"] == SQNR_CAP_DB
    assert found["cosine"] == pytest.approx(1.0)
    assert found["max_abs_error"] == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("broken", ["outputs", "reference"])
def test_broken_values_have_no_score_and_fail_every_gate(bad, broken):
    good, wrong = one(1, 2) * 3, one(1, 2) * 2 + one(bad, 2)
    sides = (wrong, good) if broken == "outputs" else (good, wrong)
    found = metrics(*sides)
    assert found["sqnr_db"] is found["cosine"] is found["max_abs_error"] is None
    assert found["worst"]["sample"] == 2
    assert judge(found, {"sqnr_db": {"min": -1000}})[1] == "fail"
    json.dumps(found, allow_nan=False)


def test_masks_in_common_are_equal():
    """A reference that holds -inf on purpose still has a distance to its copies."""
    found = metrics(one(-math.inf, 9), one(-math.inf, 10))
    assert found["sqnr_db"] == pytest.approx(20.0)
    assert found["max_abs_error"] == 1.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_dtypes_may_differ(dtype):
    assert metrics(one(1, 3, dtype=dtype), one(1, 3))["sqnr_db"] == SQNR_CAP_DB


def test_large_values_do_not_overflow():
    """fp32's largest values squared leave fp32's range, not float64's."""
    assert metrics(one(3e38, 1), one(3e38, 1.5))["sqnr_db"] == SQNR_CAP_DB
    assert metrics(one(3e38, 1), one(2.9e38, 1))["sqnr_db"] == pytest.approx(29.248, abs=1e-2)


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
            found.append(metrics([(a,)], [(b,)]))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=20))
def test_scores_stay_in_their_ranges(pairs):
    outputs, reference = (torch.tensor([side]) for side in zip(*pairs, strict=True))
    found = metrics([(outputs,)], [(reference,)])
    assert -SQNR_CAP_DB <= found["sqnr_db"] <= SQNR_CAP_DB
    assert found["cosine"] is None or -1 <= found["cosine"] <= 1
    assert found["max_abs_error"] == (reference.double() - outputs.double()).abs().max()


@pytest.mark.parametrize(
    ("outputs", "reference", "says"),
    [
        ([], [], "no samples"),
        (one(1) * 2, one(1), "2 samples of outputs against 1"),
        ([(torch.ones(1), torch.ones(1))], [(torch.ones(1),)], "Sample 0: 2 outputs, but the .* 1"),
        ([()], [()], "no outputs"),
    ],
)
def test_mismatches_are_errors(outputs, reference, says):
    """Broadcasting would compare the wrong numbers and call it a score."""
    with pytest.raises(InputError, match=says):
        compare(outputs, reference)
