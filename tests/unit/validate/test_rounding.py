"""Protects the digits of a report: enough to judge by, none that mean nothing."""

import pytest
from pte_foundry.validate.rounding import rounded


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("sqnr_db", 63.40449, 63.4),
        ("sqnr_db", 63.40444, 63.4),
        ("sqnr_db", -2.61649, -2.62),
        ("sqnr_db", 130.43331627, 130.4),
        ("sqnr_db", 200.0, 200.0),
        ("cosine", 0.9999998773152892, 1.0),
        ("cosine", 0.9926264532547018, 0.992626),
        ("max_abs_error", 0.003848552703857422, 0.00385),
        ("max_abs_error", 1.5497207641601562e-05, 1.55e-05),
        ("max_abs_error", 30_001, 30_001),
        ("ranking_agreement", 0.9999999999999999, 1.0),
        ("ranking_agreement", 0.9591999999999997, 0.9592),
        ("equal_fraction", 0.999999, 0.999999),
        ("perplexity", 35.1487210239, 35.1487),
        ("perplexity", 340_000.123, 340_000.0),
        ("top1_change", -0.0033444816053511683, -0.00334448),
        ("sqnr_db", None, None),
        ("top1", 0.0, 0.0),
    ],
)
def test_digits(name, value, expected):
    assert rounded(value, name) == expected


def test_everything_within_is_rounded_by_its_own_name():
    found = rounded({"sqnr_db": 1.23456, "worst": {"sample": 3, "cosine": 0.12345678}, "n": [1.5]})
    assert found == {"sqnr_db": 1.23, "worst": {"sample": 3, "cosine": 0.123457}, "n": [1.5]}


def test_whole_numbers_stay_integers():
    assert type(rounded(70_000, "max_abs_error")) is int
