"""Acts at the end of every Snakemake run, and can make it fail.

Stands against: snakemake 9.27.1
Uses: ``Workflow._onsuccess`` and ``_onerror`` (``workflow.py``), the handlers of a Snakefile, from
    which an error would be told with the lines of the Snakefile; ``_build_dag``, ``dag`` and
    ``dryrun``: a run that has nothing to do returns after it, and calls no handler.
    ``queue_listener`` and ``_queue`` of ``LoggerManager`` (``logging.py``), from which a thread
    feeds the loggers.
Remove when: a handler is called at the end of a run with nothing to do, and can make a run fail.
"""

from collections.abc import Callable
from typing import Any

from pte_foundry.upstream.snakemake_refusals import refusal
from pte_foundry.upstream.versions import require


def at_the_end(workflow: Any, conclude: Callable[[bool], str]) -> None:
    """Calls a function after the handlers of the Snakefile, once loggers have told all.

    Not in the process that executes one job of another, not in a dry run, and not if handlers are
    turned off.

    Args:
        workflow: the ``workflow`` of a Snakefile.
        conclude: called with whether a job failed; returns why the run fails, or "".
    """
    if not require(workflow, "is_main_process", patch=__name__):
        return

    def end(failed: bool) -> None:
        _wait_for_loggers(workflow)
        # After a failed job the run fails anyway.
        if (why := conclude(failed)) and not failed:
            raise refusal(why)

    for name, failed in (("_onsuccess", False), ("_onerror", True)):
        setattr(workflow, name, _both(require(workflow, name, patch=__name__), end, failed))
    build = require(workflow, "_build_dag", "", patch=__name__)

    def built() -> None:
        build()
        dag = require(workflow, "dag", patch=__name__)
        idle = not any(require(dag, "needrun_jobs", "exclude_finished", patch=__name__)())
        if idle and not require(workflow, "dryrun", patch=__name__):
            end(False)

    workflow._build_dag = built


def _both(
    theirs: Callable[[Any], Any], end: Callable[[bool], None], failed: bool
) -> Callable[[Any], None]:
    def handle(log: Any) -> None:
        theirs(log)
        end(failed)

    return handle


def _wait_for_loggers(workflow: Any) -> None:
    manager = require(workflow, "logger_manager", patch=__name__)
    if require(manager, "queue_listener", patch=__name__):
        require(manager, "_queue", patch=__name__).join()
