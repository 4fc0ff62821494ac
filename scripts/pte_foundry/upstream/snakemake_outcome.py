"""Which jobs of a Snakemake run failed, and which files it did not make because of that.

Stands against: snakemake 9.27.1
Uses: ``Workflow.is_main_process``, ``dag``, ``scheduler`` and ``persistence``
    (``snakemake/workflow.py``); ``failed`` of ``JobScheduler`` (``scheduling/job_scheduler.py``);
    ``depending``, ``finished`` and ``needrun_jobs`` of ``DAG`` (``dag.py``); ``cleanup_metadata``
    of the persistence (``persistence/__init__.py``). ``onerror`` is told nothing but the log file.
Remove when: ``onerror`` is told which jobs failed, and a hook can mark a file as outdated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pte_foundry.upstream.versions import require


@dataclass(frozen=True)
class FailedJob:
    """A job that failed in its last attempt.

    Attributes:
        rule: the name of its rule.
        wildcards: their values by name.
        log: its log file, or an empty string.
        stops: output files of this job, and of all jobs that wait for it.
    """

    rule: str
    wildcards: Mapping[str, str]
    log: str
    stops: frozenset[str]


@dataclass(frozen=True)
class Outcome:
    """What a run that failed has not done.

    Attributes:
        failed: the jobs that failed.
        unmade: output files of all jobs that had to run and did not end well. An old version of
            such a file may exist.
    """

    failed: tuple[FailedJob, ...]
    unmade: frozenset[str]


def outcome(workflow: Any, stages: Mapping[str, str] | None = None) -> Outcome | None:
    """Returns what a run has not done; to be called from ``onerror``.

    Returns None in a process that executes one job of another, and if no job failed, as after
    Ctrl-C.

    Args:
        workflow: the ``workflow`` of a Snakefile.
        stages: the names that count of rules, in a module others than they have there, and what to
            call them. None: all, as they are.
    """
    if not require(workflow, "is_main_process", patch=__name__):
        return None
    dag = require(workflow, "dag", patch=__name__)
    depending = require(dag, "depending", patch=__name__)
    finished = require(dag, "finished", "job", patch=__name__)
    failed, made = [], set()
    for one in require(workflow.scheduler, "failed", patch=__name__):
        if not one.is_group():
            failed.append(one)
            continue
        # Of a group that fails, Snakemake knows only that. What its jobs have made has been kept.
        missing = {job for job in one.jobs if not all(Path(file).exists() for file in job.output)}
        made |= set(one.jobs) - missing
        waiting = {later for job in missing for later in _waiting(job, depending) - {job}}
        failed += missing - waiting
    failed = [job for job in failed if not finished(job)]
    if stages is not None:
        failed = [job for job in failed if job.rule.name in stages]
    if not failed:
        return None
    told = [
        FailedJob(
            (stages or {}).get(job.rule.name, job.rule.name),
            dict(job.wildcards_dict),
            str(next(iter(job.log), "")),
            frozenset(str(file) for one in _waiting(job, depending) for file in one.output),
        )
        for job in failed
    ]
    unmade = {
        str(file)
        for job in require(dag, "needrun_jobs", "exclude_finished", patch=__name__)()
        for file in job.output
        if job not in made
    }
    told.sort(key=lambda job: (job.log, job.rule))
    return Outcome(tuple(told), frozenset(unmade))


def _waiting(job: Any, depending: Mapping[Any, Mapping[Any, Any]]) -> set[Any]:
    """The job itself and all jobs that wait for it, directly or not."""
    seen, left = {job}, [job]
    while left:
        for other in depending[left.pop()]:
            if other not in seen:
                seen.add(other)
                left.append(other)
    return seen


def forget(workflow: Any, path: str) -> None:
    """Deletes Snakemake's record of how it made a file, which then counts by its date alone."""
    from snakemake.io import IOFile

    require(workflow.persistence, "cleanup_metadata", "target", patch=__name__)(IOFile(path))
