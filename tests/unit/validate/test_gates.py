"""Protects the verdicts: what was not measured was not met, and a warning stays visible."""

import math

import pytest
from pte_foundry.errors import ConfigError
from pte_foundry.validate.gates import gate_values, judge
from pte_foundry.validate.schema import GATE_METRICS

from tests.made_up_reports import report


def test_limits_are_inclusive_and_both_are_judged():
    gates = {"sqnr_db": {"min": 45, "max": 60.5}}
    assert judge({"sqnr_db": 45}, gates) == (
        [
            {"metric": "sqnr_db", "limit": ">= 45", "value": 45, "passed": True, "on_fail": "fail"},
            {
                "metric": "sqnr_db",
                "limit": "<= 60.5",
                "value": 45,
                "passed": True,
                "on_fail": "fail",
            },
        ],
        "pass",
    )
    verdicts, status = judge({"sqnr_db": 60.6}, gates)
    assert [v["passed"] for v in verdicts] == [True, False]
    assert status == "fail"


def test_a_warning_does_not_fail_but_shows():
    gates = {"bytes": {"max": 12_345_678_901, "on_fail": "warn"}}
    verdicts, status = judge({"bytes": 12_345_678_902}, gates)
    assert status == "pass"
    assert verdicts[0]["passed"] is False
    assert verdicts[0]["limit"] == "<= 12345678901"


def test_one_failure_among_warnings_fails():
    gates = {"a": {"min": 1, "on_fail": "warn"}, "b": {"min": 1, "on_fail": "fail"}}
    assert judge({"a": 0, "b": 0}, gates)[1] == "fail"
    assert judge({"a": 0, "b": 1}, gates)[1] == "pass"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "sqnr_db was not measured"),
        ({"sqnr_db": None}, "sqnr_db is null"),
        ({"sqnr_db": math.nan}, "is nan,"),
        ({"sqnr_db": math.inf}, "is inf,"),
        ({"sqnr_db": "60"}, "is 60,"),
        ({"sqnr_db": True}, "is True,"),
    ],
)
def test_no_number_fails_with_a_reason(values, reason):
    (verdict,), status = judge(values, {"sqnr_db": {"min": -1e9}})
    assert status == "fail"
    assert verdict["value"] is None
    assert reason in verdict["reason"]


def test_zero_is_a_limit_and_null_is_none():
    """``max: 0`` must not be taken for an absent limit, and an absent one may be null."""
    (verdict,), status = judge({"drop": 0.1}, {"drop": {"min": None, "max": 0, "on_fail": None}})
    assert (verdict["limit"], status) == ("<= 0", "fail")


def test_no_gates_pass():
    assert judge({"sqnr_db": None}, {}) == ([], "pass")


def test_all_bad_gates_in_one_error():
    gates = {
        "a": {},
        "b": {"min": math.nan},
        "c": {"max": 1, "on_fail": "ignore"},
        "d": {"min": "1"},
    }
    with pytest.raises(ConfigError) as error:
        judge({}, gates)
    assert [f"'{name}'" in str(error.value) for name in "abcd"] == [True] * 4
    assert "fail, warn" in str(error.value)


def test_gate_values_are_the_declared_ones_and_the_task_metrics():
    made = report("digits_cnn", "lut1", "ios18")
    made["hazards"] = [
        {"op": "log", "torch_source": None, "kind": kind, "count": count}
        for kind, count in (("nan", 1), ("inf", 2), ("fp16_overflow", 4), ("fp16_near_overflow", 8))
    ]
    values = gate_values(made)
    assert set(values) == {*GATE_METRICS, "top1", "top1_change"}
    assert values["hazards"] == 7, "a value near an overflow is a warning"
    assert values["worst_sqnr_db"] == made["metrics"]["worst"]["sqnr_db"]
    assert values["bytes"] == made["artifact"]["bytes"]
