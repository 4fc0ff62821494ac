"""Lets Snakemake wait for a Slurm controller that is away, and notice soon that a job has ended.

Stands against: snakemake 9.27.1, snakemake-executor-plugin-slurm 2.8.0
Repairs: ``Executor.check_active_jobs`` (``__init__.py``). If all queries for the status of jobs
    fail, as during a restart of ``slurmctld``, it forgets the jobs and waits for them for ever
    (https://github.com/snakemake/snakemake-executor-plugin-slurm/issues/207 is the same with a
    database that is away). After every query in which no job has ended it waits 10 s longer, up to
    180 s, whatever ``--slurm-init-seconds-before-status-checks`` is.
Remove when: jobs whose status is unknown stay active, and the time between queries is an option.
"""

import asyncio
import sys
from functools import wraps
from typing import Any

from pte_foundry.upstream.versions import require

PLUGIN = "snakemake_executor_plugin_slurm"


def keep_asking() -> None:
    """Repairs the plugin, once per process, if Snakemake has loaded it."""
    plugin = sys.modules.get(PLUGIN)
    if plugin is None:
        return
    query = require(plugin, "query_job_status", "command logger", patch=__name__)
    if hasattr(query, "__wrapped__"):
        return

    @wraps(query)
    async def answered(*arguments: Any, **named: Any) -> tuple[dict[str, str], float]:
        status, seconds = await query(*arguments, **named)
        # Jobs that an answer does not contain stay active.
        return ({}, 0.0) if status is None else (status, seconds)

    async def sleep(self: Any) -> None:
        settings = require(self.workflow, "executor_settings", patch=__name__)
        await asyncio.sleep(require(settings, "init_seconds_before_status_checks", patch=__name__))

    require(plugin.Executor, "sleep", "self", patch=__name__)
    plugin.query_job_status = answered
    plugin.Executor.sleep = sleep
