"""Keeps Snakemake's records of a job as they were if the job fails.

Stands against: snakemake 9.27.1
Repairs: ``Job.postprocess`` (``jobs.py``). It records parameters and checksums of a failed job as
    those of a success, then deletes its outputs. If they are intermediate files, the next run takes
    them for up to date, and with them what an earlier run has made from their older versions:
    after a step was killed, an artifact of the old recipe passes for one of the new. And if one job
    of a group fails, it does so with all of the group, also with those that have ended well. If
    outputs cannot be stored, it deletes all records, so that files without one pass for good. It
    uses ``started``, ``finished``, ``_get_key``, ``_get_recorded_starttime`` and
    ``_unmark_incomplete`` of ``persistence/__init__.py``, ``get_job_group`` of ``dag.py``, and
    ``is_storage`` and ``storage_object`` of ``_IOFile`` (``io/__init__.py``).
Remove when: ``Job.postprocess`` calls ``persistence.finished`` only for jobs without an error, and
    ``GroupJob.postprocess`` tells which jobs of a group have failed.
"""

import math
import os
from collections.abc import Iterable, Mapping
from functools import wraps
from typing import Any

from pte_foundry.upstream.versions import require

_PARAMETERS = (
    "self store_in_storage handle_log handle_touch error ignore_missing_output check_output_mtime"
)


def keep_records_of_failed_jobs() -> None:
    """Lets a failed job leave the records of its last success, once per process."""
    from snakemake.jobs import Job
    from snakemake.persistence import PersistenceBase

    original = require(Job, "postprocess", _PARAMETERS, patch=__name__)
    if hasattr(original, "__wrapped__"):
        return
    start = require(PersistenceBase, "started", "self job external_jobid", patch=__name__)
    finish = require(PersistenceBase, "finished", "self job", patch=__name__)
    require(PersistenceBase, "_get_key", "self f", patch=__name__)
    require(PersistenceBase, "_get_recorded_starttime", "self key", patch=__name__)
    require(PersistenceBase, "_unmark_incomplete", "self key", patch=__name__)
    begun: dict[str, float] = {}  # by output: when the job, or its group, was started
    failing: set[Any] = set()

    @wraps(start)
    def started(self: Any, job: Any, external_jobid: str | None = None) -> None:
        start(self, job, external_jobid)
        for file in job.output:
            # The date of a file beside the outputs: clocks of a cluster differ.
            begun[str(file)] = self._get_recorded_starttime(self._get_key(file)) or math.inf

    @wraps(finish)
    async def finished(self: Any, job: Any) -> None:
        if job not in failing:
            return await finish(self, job)
        for file in job.output:
            self._unmark_incomplete(self._get_key(file))

    @wraps(original)
    async def postprocess(self: Any, *arguments: Any, error: bool = False, **named: Any) -> None:
        if error and require(self.dag, "get_job_group", "job", patch=__name__)(self):
            error = not _made(self.output, begun)
        if error:
            failing.add(self)
        try:
            return await original(self, *arguments, error=error, **named)
        except Exception:
            # A storage that fails: some outputs may be new there, and all records are deleted.
            start(self.dag.workflow.persistence, self)
            raise
        finally:
            failing.discard(self)

    PersistenceBase.started, PersistenceBase.finished = started, finished
    Job.postprocess = postprocess


def _made(files: Iterable[Any], begun: Mapping[str, float]) -> bool:
    """Whether all outputs of a job have been written since its group was started.

    Steps rename their results into place, and a storage takes whole files, so a file that exists is
    complete.
    """
    try:
        return all(_date(file) >= math.floor(begun.get(str(file), math.inf)) for file in files)
    except (OSError, OverflowError):
        return False


def _date(file: Any) -> float:
    if not getattr(file, "is_storage", False):
        return os.stat(file).st_mtime
    try:
        return file.storage_object.mtime()  # in whole seconds
    except Exception as error:  # of the library that the storage's plugin uses
        raise FileNotFoundError(str(file)) from error
