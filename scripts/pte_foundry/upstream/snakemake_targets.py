"""Acts before a Snakemake run plans its jobs: checks what it is asked for, and locks the folder.

Stands against: snakemake 9.27.1
Uses: ``Workflow._prepare_dag`` (``workflow.py``), the first that is called after ``dag_settings``
    were set, whose ``targets`` and ``until`` are read. While a Snakefile is read, they are not, and
    no hook runs before the planning.
Remove when: a Snakefile can learn the targets, or a rule can explain why it does not make a file.
"""

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from pte_foundry.upstream.versions import require

_PARAMETERS = "forceall ignore_incomplete lock_warn_only nolock shadow_prefix"


def before_planning(
    workflow: Any,
    check: Callable[[list[str], list[str]], Iterable[str]] | None = None,
    begin: Callable[[], None] | None = None,
    read: Callable[[], None] | None = None,
) -> None:
    """Calls functions before a run is planned, in the process that schedules its jobs.

    Args:
        workflow: the ``workflow`` of a Snakefile.
        check: called with the targets of the run, files and names of rules, and with those at
            which it is to end (``--until``); raises if one is wrong. Returns files that the run is
            to make as well.
        begin: called if the run locks its files: not for a dry run, and not with ``--nolock``;
            raises if it must not begin.
        read: called once, when all of the workflow has been read.
    """
    prepare = require(workflow, "_prepare_dag", _PARAMETERS, patch=__name__)
    done: list[None] = []

    @wraps(prepare)
    def checked(*arguments: Any, **named: Any) -> Any:
        if read and not done:
            done.append(read())
        given = inspect.signature(prepare).bind(*arguments, **named).arguments
        if begin and not (given["lock_warn_only"] or given.get("nolock")):
            begin()
        if not check:
            return prepare(*arguments, **named)
        settings = require(workflow, "dag_settings", patch=__name__)
        targets, until = (
            sorted(map(str, require(settings, name, patch=__name__)))
            for name in ("targets", "until")
        )
        if more := set(check(targets, until)) - set(targets):
            settings.targets = frozenset([*targets, *more])
        return prepare(*arguments, **named)

    if require(workflow, "is_main_process", patch=__name__):
        workflow._prepare_dag = checked
