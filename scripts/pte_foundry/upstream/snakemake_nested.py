"""The Snakemakes that execute a job, or a group of jobs, on a node of a cluster.

Stands against: snakemake 9.27.1
Repairs: what executors ask of them (``executors/real.py`` of snakemake-interface-executor-plugins):
    ``--cores all``, so the jobs of a group run at once on all cores of the node, whatever the group
    has been given; no ``--keep-going``, so a job that fails stops jobs that do not need it; and the
    limit of how many jobs start in a second, whose timer keeps each of them alive for a second
    after its last job. Uses ``remote_exec``, ``local_exec``, ``dag_settings``,
    ``execution_settings``, ``global_resources``, ``scheduling_settings`` and ``_prepare_dag`` of
    ``Workflow`` (``snakemake/workflow.py``): no hook runs there, because of ``--no-hooks``.
Remove when: the jobs of a group run within what the group has asked for, and a Snakefile can learn
    that it is read for a group of jobs.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from pte_foundry.upstream.versions import require


def execute_in_turn(workflow: Any, before_group: Callable[[], None]) -> None:
    """Lets jobs of a group run one after another; does nothing in the Snakemake that plans.

    Args:
        workflow: the ``workflow`` of a Snakefile that is being read.
        before_group: called before the jobs of a group run, in the process that starts them.
    """
    if not require(workflow, "remote_exec", patch=__name__):
        return
    require(workflow, "global_resources", patch=__name__)["_cores"] = 1
    prepare = require(workflow, "_prepare_dag", patch=__name__)

    @wraps(prepare)
    def prepared(*arguments: Any, **named: Any) -> Any:
        limits = require(workflow, "scheduling_settings", patch=__name__)
        require(limits, "max_jobs_per_timespan", patch=__name__)
        limits.max_jobs_per_timespan = None
        execution = require(workflow, "execution_settings", patch=__name__)
        require(execution, "keep_going", patch=__name__)
        execution.keep_going = True
        settings = require(workflow, "dag_settings", patch=__name__)
        several = len(require(settings, "target_jobs", patch=__name__)) > 1
        if several and require(workflow, "local_exec", patch=__name__):
            before_group()
        return prepare(*arguments, **named)

    workflow._prepare_dag = prepared
