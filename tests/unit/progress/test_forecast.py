"""Protects the estimate of the time left: near the truth from the start, and never jumping."""

import random
import sys
from itertools import pairwise
from pathlib import Path

import pytest

sys.path.insert(
    0, str(Path(__file__).resolve().parents[3] / "scripts" / "pte_foundry" / "progress")
)

from snakemake_logger_plugin_foundry.forecast import LOADING, Forecast, Planned

# Long after the libraries have been loaded.
LATER = 1000.0


def forecast(*jobs: Planned) -> Forecast:
    return Forecast(dict(enumerate(jobs)), now=0.0)


def played(
    made: Forecast, took: dict[int, float], slots: int, now: float = 0.0
) -> list[tuple[float, float]]:
    """Plays a run as a scheduler would; returns the true and the estimated time left, by job."""
    left, running, shown = set(made.jobs), {}, []
    while left:
        for job in sorted(left - running.keys()):
            if len(running) < slots and left.isdisjoint(made.jobs[job].needs):
                made.start(job, now)
                running[job] = now + took[job]
        job = min(running, key=running.get)
        now = running.pop(job)
        left.discard(job)
        made.finish(job, now)
        shown.append((now, made.seconds_left(now, slots)))
    return [(now - then, estimate) for then, estimate in shown]


def test_a_run_like_the_last_one_is_forecast_before_any_job_has_ended():
    made = forecast(Planned("lower", "a", 30.0), Planned("lower", "b", 50.0))
    assert made.seconds_left(LATER, 1) == pytest.approx(80.0)


def test_cores_share_the_work_but_not_a_chain_of_jobs():
    jobs = [Planned("validate", "", 10.0) for _ in range(8)]
    assert forecast(*jobs).seconds_left(LATER, 4) == pytest.approx(20.0)
    chain = [Planned("lower", "", 10.0, (i - 1,) if i else ()) for i in range(8)]
    assert forecast(*chain).seconds_left(LATER, 4) == pytest.approx(80.0)
    assert forecast(*jobs).seconds_left(LATER, 2**63) == pytest.approx(10.0), "a cluster's jobs"


def test_the_time_that_the_libraries_take_to_load_is_part_of_it():
    made = forecast(Planned("lower", "", 10.0))
    assert made.seconds_left(0.0, 1) == pytest.approx(10.0 + LOADING)


def test_a_running_job_counts_down_and_is_never_over_before_it_ends():
    made = forecast(Planned("lower", "", 100.0))
    made.start(0, LATER)
    assert made.seconds_left(LATER + 60, 1) == pytest.approx(40.0)
    assert 10.0 < made.seconds_left(LATER + 300, 1) < 60.0


def test_what_waits_for_a_failed_job_is_not_waited_for():
    chain = [Planned("lower", "", 10.0, (i - 1,) if i else ()) for i in range(3)]
    made = forecast(*chain, Planned("validate", "", 7.0))
    made.start(0, LATER)
    made.fail(0)
    assert made.seconds_left(LATER, 1) == pytest.approx(7.0)
    made.start(0, LATER + 1000)  # a second attempt
    assert made.seconds_left(LATER + 1000, 1) == pytest.approx(37.0, abs=1)


def test_nothing_is_left_at_the_end():
    made = forecast(Planned("lower", "", 10.0), Planned("lower", "", 10.0))
    assert played(made, {0: 30.0, 1: 30.0}, 1)[-1] == (0.0, 0.0)


def test_a_run_without_jobs_and_unknown_ids_do_no_harm():
    made = forecast()
    made.start(7, 1.0)
    made.finish(7, 2.0)
    made.fail(8)
    assert made.seconds_left(LATER, 0) == 0.0


def test_the_first_job_that_waits_for_the_libraries_does_not_count_as_slow():
    made = forecast(*[Planned("lower", "a", 1.0) for _ in range(50)])
    made.start(0, 0.0)
    made.finish(0, 9.0)
    assert made.seconds_left(9.0, 1) < 60.0


def test_a_model_that_is_slower_than_expected_is_noticed_in_all_its_stages():
    stages = [(rule, model) for rule in ("export", "lower") for model in ("large", "small")]
    made = forecast(*[Planned(rule, model, 2.0) for rule, model in stages * 10])
    took = {i: 40.0 if job.model == "large" else 2.0 for i, job in made.jobs.items()}
    shown = played(made, took, 1, LATER)
    for true, estimate in shown[4:-4]:
        assert true / 2 < estimate < 2 * true, shown


def build_of_many(seed: int, factor: float) -> tuple[Forecast, dict[int, float]]:
    """Twenty builds of three models; every job takes 0.5 to 2 times ``factor`` of its plan."""
    random.seed(seed)
    jobs: list[Planned] = []
    for model, size in (("a", 1.0), ("b", 5.0), ("c", 12.0)):
        export = len(jobs)
        jobs.append(Planned("export", model, size))
        for _ in range(7):
            for at, rule in enumerate(("convert", "edge", "lower", "pte", "validate")):
                needs = (len(jobs) - 1,) if at else (export,)
                jobs.append(Planned(rule, model, size * (0.2 if rule == "pte" else 1), needs))
    took = {i: factor * job.seconds * random.uniform(0.5, 2) for i, job in enumerate(jobs)}
    return forecast(*jobs), took


@pytest.mark.parametrize("slots", [1, 2, 8])
@pytest.mark.parametrize("seed", range(3))
def test_with_an_earlier_run_the_estimate_starts_near_the_truth_and_stays_there(seed, slots):
    made, took = build_of_many(seed, 1.0)
    for true, estimate in played(made, took, slots, LATER):
        assert abs(estimate - true) < 0.35 * true + 20, (true, estimate)


@pytest.mark.parametrize("factor", [0.2, 5.0])
def test_it_never_jumps_even_if_nothing_is_as_expected(factor):
    made, took = build_of_many(0, factor)
    shown = played(made, took, 2, LATER)
    for (true, before), (later, after) in pairwise(shown):
        expected = max(0.0, before - (true - later))
        assert 0.5 * expected - 15 < after < 1.7 * expected + 15, (before, after)
    for true, estimate in shown[len(shown) // 2 :]:
        assert true / 2 - 10 < estimate < 2 * true + 10
