"""Protects the estimate of the time that is left."""

import sys
from pathlib import Path

import pytest

sys.path.insert(
    0, str(Path(__file__).resolve().parents[3] / "scripts" / "pte_foundry" / "progress")
)

from snakemake_logger_plugin_foundry import Pace, clock


def test_nothing_is_known_before_the_first_job_ends():
    assert Pace({"lower": 2}, now=0.0).seconds_left(5.0) is None


def test_slow_rules_that_are_left_count_with_their_own_time():
    pace = Pace({"fetch": 2, "lower": 2}, now=0.0)
    pace.finish("fetch", 1.0)
    pace.finish("lower", 30.0)
    # 31 s of work in 31 s: one job at a time; left are one fetch and one lowering.
    assert pace.seconds_left(31.0) == pytest.approx(31.0)
    assert pace.done == 2


def test_jobs_that_run_side_by_side_shorten_the_rest():
    pace = Pace({"lower": 4}, now=0.0)
    pace.finish("lower", 10.0)
    pace.finish("lower", 10.0)
    assert pace.seconds_left(10.0) == pytest.approx(10.0)


def test_a_rule_not_seen_yet_counts_as_the_mean():
    pace = Pace({"fetch": 1, "lower": 1}, now=0.0)
    pace.finish("fetch", 4.0)
    assert pace.seconds_left(4.0) == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (245, "4:05"), (3723, "1:02:03")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text
