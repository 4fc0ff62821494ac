"""Where the jobs of a Snakemake run are executed, and with which options it was started.

Stands against: snakemake 9.27.1
Uses: ``is_main_process``, ``local_exec``, ``remote_exec``, ``deployment_settings``,
    ``config_settings`` and ``main_snakefile`` of ``Workflow`` (``snakemake/workflow.py``), which a
    Snakefile sees as ``workflow`` but which are not documented.
Remove when: Snakemake documents how a Snakefile learns its executor.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pte_foundry.upstream.versions import require


def schedules_local_jobs(workflow: Any) -> bool:
    """Whether this process schedules the jobs, and all of them run on this machine.

    False in the Snakemake that executes one job of another, and with a cluster's executor.
    """
    return require(workflow, "is_main_process", patch=__name__) and require(
        workflow, "local_exec", patch=__name__
    )


def executes_elsewhere(workflow: Any) -> bool:
    """Whether jobs run in a Snakemake of their own; to be asked when their resources are."""
    return not require(workflow, "local_exec", patch=__name__)


def jobs_share_environment(workflow: Any) -> bool:
    """Whether jobs run in this process's environment: not elsewhere, in conda or in a container."""
    settings = require(workflow, "deployment_settings", patch=__name__)
    return not (
        require(workflow, "remote_exec", patch=__name__)
        or require(settings, "deployment_method", patch=__name__)
    )


def given_configuration(workflow: Any) -> tuple[Path, Sequence[Path], Mapping[str, Any]] | None:
    """Returns what ``--snakefile``, ``--configfile`` and ``--config`` have named.

    None in the Snakemake that executes one job of another.
    """
    if not require(workflow, "is_main_process", patch=__name__):
        return None
    settings = require(workflow, "config_settings", patch=__name__)
    files = require(settings, "configfiles", patch=__name__)
    config = require(settings, "config", patch=__name__)
    return Path(require(workflow, "main_snakefile", patch=__name__)), files, config
