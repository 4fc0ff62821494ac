"""Rules that another workflow uses as a Snakemake module: where their files are, and handlers.

Stands against: snakemake 9.27.1
Repairs: ``Workflow.onstart`` and ``onerror``, which ignore the handlers of a module.
    Uses ``Workflow.modifier`` (``workflow.py``), ``WorkflowModifier.is_main_snakefile``
    (``modules.py``) and ``PathModifier.replace_prefix`` (``path_modifier.py``). With ``prefix:``
    Snakemake moves the files that rules name, and nothing tells the rules' own code.
Remove when: a module can ask for its prefix, and its handlers run.
"""

from collections.abc import Callable
from typing import Any

from pte_foundry.errors import FoundryError
from pte_foundry.upstream.versions import require


class PrefixError(FoundryError):
    """A module's files are moved in a way that these rules do not support."""


def is_module(workflow: Any) -> bool:
    """Whether another workflow uses these rules; to be called while they are read."""
    modifier = require(workflow, "modifier", patch=__name__)
    return not require(modifier, "is_main_snakefile", "", patch=__name__)()


def placing(workflow: Any) -> Callable[[str], str]:
    """Returns where Snakemake puts a file of these rules; to be called while they are read.

    Raises:
        PrefixError: ``replace_prefix:`` of the module renames the folder of results.
    """
    modifier = require(workflow, "modifier", patch=__name__)
    paths = require(modifier, "path_modifier", patch=__name__)
    replace = require(paths, "replace_prefix", "path property", patch=__name__)
    found = str(replace("results/x"))
    if found != "results/x" and not found.endswith("/results/x"):
        raise PrefixError(
            f"replace_prefix: of the module puts results/x into {found}, but the folder must be "
            "called results. Use prefix: instead, which puts a folder before it."
        )
    return lambda path: str(replace(path))


def add_handlers(workflow: Any, start: Callable[[], None], error: Callable[[], None]) -> None:
    """Makes a run call these functions before its own handlers.

    To be called once all of the workflow has been read, which may set handlers of its own.

    Args:
        workflow: the ``workflow`` of a Snakefile.
        start: called before the first job.
        error: called after a run in which a job failed.
    """
    for name, ours in (("_onstart", start), ("_onerror", error)):
        theirs = require(workflow, name, patch=__name__)
        setattr(workflow, name, _both(ours, theirs))


def _both(ours: Callable[[], None], theirs: Callable[..., Any]) -> Callable[[Any], None]:
    def handle(log: Any) -> None:
        ours()
        theirs(log)

    return handle
