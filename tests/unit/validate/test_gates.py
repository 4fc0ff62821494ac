"""Protects the verdicts: what was not measured was not met, and a warning stays visible."""

import math

import pytest
from pte_foundry.config.gates import COMMON_METRICS as CONFIGURED
from pte_foundry.errors import ConfigError
from pte_foundry.validate.gates import gate_values, judge, judge_measurement, laxer
from pte_foundry.validate.schema import GATE_METRICS

from tests.made_up_reports import detector, output, report, unmeasured


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
    assert set(values) == {*GATE_METRICS, "top1", "top1_change"} - {"equal_fraction"}
    assert values["hazards"] == 7, "a value near an overflow is a warning"
    assert values["worst_sqnr_db"] == made["metrics"]["worst"]["sqnr_db"]
    assert values["bytes"] == made["artifact"]["bytes"]


def test_the_config_knows_the_metrics_that_are_measured():
    """The config is checked without the library that measures."""
    assert set(CONFIGURED) == set(GATE_METRICS)


SQNR = {"sqnr_db": {"min": 45, "optional": True}}
EQUAL = {"equal_fraction": {"min": 0.9, "optional": True}}


def test_a_verdict_names_the_output_that_decides():
    verdicts, status = judge_measurement(detector(), SQNR | EQUAL)
    assert [(v["metric"], v["output"], v["passed"]) for v in verdicts] == [
        ("sqnr_db", "scores", False),
        ("equal_fraction", "classes", False),
    ]
    assert status == "fail"
    (single,), _ = judge_measurement(report("minilm", "fp16", "ios18"), SQNR)
    assert "output" not in single, "there is only one"


def test_an_optional_gate_is_for_models_that_have_the_metric():
    """Integers have no SQNR, and floats no share of equal values; both are no failure."""
    floating = report("minilm", "fp16", "ios18")
    assert [v["metric"] for v in judge_measurement(floating, SQNR | EQUAL)[0]] == ["sqnr_db"]
    whole = report("minilm", "fp16", "ios18")
    whole["outputs"] = [output("ids", {"equal_fraction": 1.0, "max_abs_error": 0}, "int64")]
    whole["metrics"] |= {"sqnr_db": None, "cosine": None, "equal_fraction": 1.0, "worst": None}
    assert [v["metric"] for v in judge_measurement(whole, SQNR | EQUAL)[0]] == ["equal_fraction"]


def test_an_optional_gate_on_outputs_that_are_not_finite_fails():
    broken = report("minilm", "fp16", "ios18")
    broken["metrics"] |= {"sqnr_db": None, "worst": {"sample": 2, "sqnr_db": None, "cosine": None}}
    broken["outputs"][0] |= {"sqnr_db": None, "problem": "sample 2 has a nan"}
    (verdict,), status = judge_measurement(broken, SQNR)
    assert (verdict["reason"], status) == ("sqnr_db is null, as sample 2 has a nan", "fail")


def test_a_gate_that_is_asked_for_fails_where_the_metric_means_nothing():
    encoder = report("minilm", "fp16", "ios18")
    encoder["metrics"]["top1_agreement"] = None
    (verdict,), status = judge_measurement(encoder, {"top1_agreement": {"min": 0.9}})
    assert status == "fail"
    assert verdict["reason"].startswith("top1_agreement was not measured: no output is known to")


def test_an_error_fails_and_is_not_told_again_by_gates():
    verdicts, status = judge_measurement(
        unmeasured(), SQNR | {"bytes": {"max": 1}, "top1": {"min": 1}}
    )
    assert ([v["metric"] for v in verdicts], status) == (["bytes"], "fail")
    assert judge_measurement(unmeasured(), {})[1] == "fail"


DEFAULTS = {"sqnr_db": {"min": 12.0}, "hazards": {"max": 0.0}}


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        ({}, []),
        ({"sqnr_db": {"min": 12.0}, "top1": {"min": 0.5}}, []),
        ({"sqnr_db": {"min": 14.0}}, []),
        ({"sqnr_db": {"min": 9.0}}, [("sqnr_db", ">= 12", ">= 9")]),
        ({"sqnr_db": {"max": 90.0}}, [("sqnr_db", ">= 12", "<= 90")]),
        ({"sqnr_db": None}, [("sqnr_db", ">= 12", None)]),
        ({"hazards": {"max": 3.0}}, [("hazards", "<= 0", "<= 3")]),
        (
            {"sqnr_db": {"min": 12.0, "on_fail": "warn"}},
            [("sqnr_db", ">= 12", ">= 12 (only warns)")],
        ),
    ],
)
def test_gates_that_are_laxer_than_the_defaults_are_known(gates, expected):
    given = {metric: gate for metric, gate in (DEFAULTS | gates).items() if gate}
    found = laxer(given, DEFAULTS)
    assert [(gate["metric"], gate["default"], gate["limit"]) for gate in found] == expected
