"""One line about a job that has just failed: what it worked on, its stage, cause and log."""

from __future__ import annotations

from collections.abc import Mapping

from pte_foundry.place import Folder
from pte_foundry.report.failures import failure_of
from pte_foundry.upstream.snakemake_outcome import FailedJob, Outcome
from pte_foundry.upstream.snakemake_storage import Storage
from pte_foundry.workflow.failures import FailedRun

_LONGEST = 600  # characters of a message


def failure_line(
    place: Folder | Storage,
    since: float,
    rule: str,
    wildcards: Mapping[str, str],
    log: str,
    killed: Mapping[str, str],
) -> str:
    """Returns the line, with the whole message: the end of the run has its first line.

    Args:
        place: where the results are.
        since: when the run began, in seconds since 1970; an older log is that of another run.
        rule: the name of the job's rule.
        wildcards: their values by name.
        log: the job's log file, or an empty string.
        killed: what killed a step, by its log, as far as known.
    """
    run = FailedRun(None, Outcome((), frozenset()), since, killed, place)
    job = FailedJob(rule, wildcards, place.name(log) if log else "", frozenset())
    failure = failure_of(run.error_of(job))
    cause = " ".join(failure.message.split())
    if len(cause) > _LONGEST:
        cause = f"{cause[:_LONGEST].rstrip()} …"
    where = f" ({failure.consequence})" if failure.consequence else ""
    return f"{failure.title}: {cause}{where}"
