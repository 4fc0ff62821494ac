"""Protects a build on Slurm from waiting for ever, or for minutes, for what has long ended."""

import asyncio
import time
from types import SimpleNamespace

import pytest
import snakemake_executor_plugin_slurm as plugin
from pte_foundry.upstream import snakemake_slurm_status
from pte_foundry.upstream.snakemake_slurm_status import keep_asking
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

JOB = SimpleNamespace(external_jobid="7", aux={})


class Throttle:
    async def __aenter__(self):
        pass

    async def __aexit__(self, *error):
        pass


def checking(monkeypatch, answers):
    """An executor whose cluster gives these answers, one for each query; None: it is away."""
    given = iter(answers)

    async def query(command, logger):
        answer = next(given)
        return (None, None) if answer is None else (answer, 0.1)

    monkeypatch.setattr(plugin, "query_job_status", query)
    monkeypatch.setattr(plugin, "get_min_job_age", lambda: None)
    monkeypatch.setattr(plugin, "is_query_tool_available", lambda name: name == "squeue")
    monkeypatch.setattr(plugin.Executor, "sleep", RemoteExecutor.sleep)
    made = object.__new__(plugin.Executor)
    settings = SimpleNamespace(
        status_attempts=2,
        init_seconds_before_status_checks=1,
        status_command="squeue",
        keep_successful_logs=True,
    )
    made.workflow = SimpleNamespace(executor_settings=settings, remote_execution_settings=None)
    made.logger = SimpleNamespace(**dict.fromkeys(("debug", "info", "warning"), lambda *a: None))
    made.run_uuid, made.status_rate_limiter = "run", Throttle()
    made._status_query_failures = made._status_query_calls = 0
    made._status_query_total_seconds, made._status_query_cycle_rows = 0.0, []
    made._status_query_min_seconds = made._status_query_max_seconds = 0.0
    made.next_seconds_between_status_checks = 1
    made.ended = []
    made.report_job_success = made.ended.append
    return made


def active(executor):
    async def check():
        return [job async for job in executor.check_active_jobs([JOB])]

    return asyncio.run(check())


def test_the_plugin_still_forgets_its_jobs(monkeypatch):
    """If this fails, jobs whose status is unknown stay active: remove that part of the patch."""
    assert active(checking(monkeypatch, [None, None])) == []


def test_jobs_stay_active_while_the_controller_is_away(monkeypatch):
    executor = checking(monkeypatch, [None, {"7": "COMPLETED"}])
    keep_asking()
    assert active(executor) == [JOB]
    assert (active(executor), executor.ended) == ([], [JOB])


def test_the_plugin_still_waits_longer_and_longer(monkeypatch):
    """If this fails, the time between queries is what was asked for: remove that part."""
    executor = checking(monkeypatch, [{"7": "RUNNING"}])
    assert active(executor) == [JOB]
    assert executor.next_seconds_between_status_checks == 11


def test_it_asks_as_often_as_the_profile_says(monkeypatch):
    executor = checking(monkeypatch, [{"7": "RUNNING"}])
    keep_asking()
    assert active(executor) == [JOB]
    began = time.monotonic()
    asyncio.run(executor.sleep())
    assert 1 <= time.monotonic() - began < 5


def test_it_is_installed_once_and_only_with_the_plugin(monkeypatch):
    checking(monkeypatch, [])
    keep_asking()
    once = plugin.query_job_status
    keep_asking()
    assert plugin.query_job_status is once
    monkeypatch.setattr(snakemake_slurm_status, "PLUGIN", "not_installed")
    keep_asking()


@pytest.mark.parametrize("name", ["query_job_status", "Executor"])
def test_the_plugin_still_has_what_is_replaced(name):
    assert hasattr(plugin, name)
