"""Checks what a Snakemake run is asked for, before its jobs are planned.

Stands against: snakemake 9.27.1
Uses: ``Workflow._prepare_dag`` (``workflow.py``), the first that is called after ``dag_settings``
    were set. While a Snakefile is read, they are not, and no hook runs before the planning.
Remove when: a Snakefile can learn the targets, or a rule can explain why it does not make a file.
"""

from collections.abc import Callable
from typing import Any

from pte_foundry.upstream.versions import require

_PARAMETERS = "forceall ignore_incomplete lock_warn_only nolock shadow_prefix"


def before_planning(workflow: Any, check: Callable[[list[str]], None]) -> None:
    """Calls ``check`` with the targets of a run, files and names of rules, before it is planned.

    Args:
        workflow: the ``workflow`` of a Snakefile.
        check: raises if a target is wrong.
    """
    prepare = require(workflow, "_prepare_dag", _PARAMETERS, patch=__name__)

    def checked(*arguments: Any, **named: Any) -> Any:
        settings = require(workflow, "dag_settings", patch=__name__)
        check(sorted(map(str, require(settings, "targets", patch=__name__))))
        return prepare(*arguments, **named)

    if require(workflow, "is_main_process", patch=__name__):
        workflow._prepare_dag = checked
