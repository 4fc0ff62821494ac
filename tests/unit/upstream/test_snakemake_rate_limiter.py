"""Protects the time that Snakemake itself takes to schedule hundreds of jobs."""

from types import SimpleNamespace

import pytest
from pte_foundry.upstream.snakemake_rate_limiter import remove_rate_limiter
from pte_foundry.upstream.versions import UpstreamError
from snakemake.scheduling.job_scheduler import JobScheduler

from tests.project import ROOT
from tests.unit.upstream.source_digest import assert_source_digest


@pytest.mark.parametrize(
    ("method", "digest"),
    [
        (JobScheduler.schedule, "9f32db93a39bd96fc31472e75da5b80615ca6e7f9409da10a7492a2e7e3fa0a4"),
        (
            JobScheduler._schedule_reevalutation,
            "bb09f100ea5766bbab2a2fa26d28d2a7488140ed6e74224adcebab65112bbf69",
        ),
        (
            JobScheduler.job_selector,
            "11a654075403acf2485b9f2c85460a5527a2d42165163ca5862218bab71c0009",
        ),
    ],
)
def test_the_rate_limiter_is_still_the_one_that_is_switched_off(method, digest):
    check = "Is the timer of `JobScheduler.schedule` gone? Then the patch can go too."
    assert_source_digest(method, digest, check)


def test_the_rules_switch_it_off():
    assert "remove_rate_limiter(workflow)" in (ROOT / "rules" / "common.smk").read_text()


def test_the_scheduler_is_left_without_a_limiter():
    scheduler = SimpleNamespace(job_rate_limiter="some jobs a second")
    remove_rate_limiter(SimpleNamespace(scheduler=scheduler))
    assert scheduler.job_rate_limiter is None


def test_a_scheduler_that_has_none_is_refused_with_the_name_of_the_patch():
    with pytest.raises(UpstreamError, match=r"job_rate_limiter does not exist.*snakemake_rate"):
        remove_rate_limiter(SimpleNamespace(scheduler=SimpleNamespace()))
