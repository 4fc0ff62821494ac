"""Switches off Snakemake's limit of how many jobs start in a second.

Stands against: snakemake 9.27.1
Repairs: ``JobScheduler`` (``scheduling/job_scheduler.py``). For ``job_rate_limiter`` it examines
    all waiting jobs again every second, once for each job that has ended so far, which takes a core
    after some hundred jobs. On one machine its cores are limit enough.
Remove when: ``JobScheduler.schedule`` has no timer for the limit any more, or one for all jobs.
"""

from typing import Any

from pte_foundry.upstream.versions import require


def remove_rate_limiter(workflow: Any) -> None:
    """Let any number of jobs start in a second; to be called from ``onstart``.

    Args:
        workflow: the ``workflow`` of a Snakefile.
    """
    require(workflow.scheduler, "job_rate_limiter", patch=__name__)
    workflow.scheduler.job_rate_limiter = None
