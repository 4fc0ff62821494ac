"""Tells a run's loggers which jobs it has planned, and how long they are expected to take.

Stands against: snakemake 9.27.1
Uses: ``Workflow._build_dag``, ``dag`` and ``logger_manager`` (``snakemake/workflow.py``);
    ``needrun_jobs``, ``needrun``, ``dependencies`` and ``jobid`` of ``DAG`` (``dag.py``). A logger
    is told how many jobs of each rule there are, and of a job when it starts. With ``--until`` the
    jobs beyond are in the DAG when it has been built, and removed from it afterwards.
Remove when: an event of the logger has the jobs with their dependencies.
"""

from collections.abc import Callable
from typing import Any

from pte_foundry.upstream.versions import require

Plan = dict[int, tuple[str, str, float, tuple[int, ...]]]
"""By id of a job: rule, model or "", expected seconds, and ids of the jobs that it waits for."""


def tell_plan(workflow: Any, expecting: Callable[[], Callable[[str, str | None], float]]) -> None:
    """Calls ``expect(plan)`` of every logger that has it, once the jobs of a run are known.

    Args:
        workflow: the ``workflow`` of a Snakefile.
        expecting: called once there is a plan; returns a function that returns the expected seconds
            of a job, given the name of its rule and its output ``benchmark``, or None.
    """
    if not require(workflow, "is_main_process", patch=__name__):
        return
    build = require(workflow, "_build_dag", "", patch=__name__)

    def built() -> None:
        build()
        manager = require(workflow, "logger_manager", patch=__name__)
        loggers = require(manager, "get_log_handlers", "", patch=__name__)()
        told = [logger.expect for logger in loggers if hasattr(logger, "expect")]
        if told:
            plan = _plan(require(workflow, "dag", patch=__name__), expecting())
            for expect in told:
                expect(plan)

    workflow._build_dag = built


def _plan(dag: Any, seconds: Callable[[str, str | None], float]) -> Plan:
    needed = require(dag, "needrun_jobs", "exclude_finished", patch=__name__)
    dependencies = require(dag, "dependencies", patch=__name__)
    jobid = require(dag, "jobid", "job", patch=__name__)
    # Rules without an output only collect what is asked for.
    ids = {job: jobid(job) for job in needed(exclude_finished=False) if job.output}
    plan: Plan = {}
    for job, number in ids.items():
        benchmark = getattr(job.output, "benchmark", None)
        expected = seconds(job.rule.name, None if benchmark is None else str(benchmark))
        needs = tuple(ids[other] for other in dependencies[job] if other in ids)
        plan[number] = job.rule.name, dict(job.wildcards_dict).get("model", ""), expected, needs
    return plan
