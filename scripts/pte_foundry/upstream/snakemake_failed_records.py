"""Keeps Snakemake's records of a job as they were if the job fails.

Stands against: snakemake 9.27.1
Repairs: ``Job.postprocess`` (``jobs.py``). It records parameters and checksums of a failed job as
    those of a success, then deletes its outputs. If they are intermediate files, the next run takes
    them for up to date, and with them what an earlier run has made from their older versions:
    after a step was killed, an artifact of the old recipe passes for one of the new. It uses
    ``finished``, ``_get_key`` and ``_unmark_incomplete`` of ``persistence/__init__.py``.
Remove when: ``Job.postprocess`` calls ``persistence.finished`` only for jobs without an error.
"""

from functools import wraps
from typing import Any

from pte_foundry.upstream.versions import require

_PARAMETERS = (
    "self store_in_storage handle_log handle_touch error ignore_missing_output check_output_mtime"
)


def keep_records_of_failed_jobs() -> None:
    """Lets a failed job leave the records of its last success, once per process."""
    from snakemake.jobs import Job

    original = require(Job, "postprocess", _PARAMETERS, patch=__name__)
    if hasattr(original, "__wrapped__"):
        return

    @wraps(original)
    async def postprocess(self: Any, *arguments: Any, error: bool = False, **named: Any) -> None:
        if not error:
            return await original(self, *arguments, error=error, **named)
        persistence = self.dag.workflow.persistence
        key_of = require(persistence, "_get_key", "f", patch=__name__)
        unmark = require(persistence, "_unmark_incomplete", "key", patch=__name__)

        async def finished(job: Any) -> None:
            for file in job.output:
                unmark(key_of(file))

        # Jobs that fail are dealt with one after another, by the thread that schedules them.
        require(persistence, "finished", "job", patch=__name__)
        persistence.finished = finished
        try:
            return await original(self, *arguments, error=error, **named)
        finally:
            del persistence.finished

    Job.postprocess = postprocess
