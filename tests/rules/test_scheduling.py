"""Protects the time that Snakemake itself takes: see `onstart` in the Snakefile."""

import hashlib
import inspect

from snakemake.scheduling.job_scheduler import JobScheduler

from tests.project import ROOT


def test_the_rate_limiter_is_still_the_one_that_is_switched_off():
    """If this fails: is the timer of `JobScheduler.schedule` gone? Then `onstart` can go too."""
    assert "workflow.scheduler.job_rate_limiter = None" in (ROOT / "rules/common.smk").read_text()
    parts = (JobScheduler.schedule, JobScheduler._schedule_reevalutation, JobScheduler.job_selector)
    digest = hashlib.sha256("".join(map(inspect.getsource, parts)).encode()).hexdigest()
    assert digest == ("8306fdb34babdd9026c683f7e03419af0f0b2fa1f947942af23e803a056e2c5f")
