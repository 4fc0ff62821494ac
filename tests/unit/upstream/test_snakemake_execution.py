"""Protects where the fork server is started: only for jobs on this machine, in this environment."""

from types import SimpleNamespace

import pytest
from pte_foundry.upstream.snakemake_execution import jobs_share_environment, schedules_local_jobs
from pte_foundry.upstream.versions import UpstreamError
from snakemake.api import Workflow
from snakemake.settings.types import DeploymentSettings


def workflow(**changes):
    usual = {
        "is_main_process": True,
        "local_exec": True,
        "remote_exec": False,
        "deployment_settings": DeploymentSettings(),
    }
    return SimpleNamespace(**(usual | changes))


def test_snakemake_still_has_the_attributes():
    for name in ("is_main_process", "local_exec", "remote_exec"):
        assert isinstance(vars(Workflow)[name], property)
    assert DeploymentSettings().deployment_method == set()
    assert Workflow.__dataclass_fields__["deployment_settings"]


def test_only_the_process_that_schedules_jobs_of_this_machine_counts():
    assert schedules_local_jobs(workflow())
    assert not schedules_local_jobs(workflow(is_main_process=False))
    assert not schedules_local_jobs(workflow(local_exec=False))


def test_jobs_in_conda_a_container_or_elsewhere_have_another_environment():
    assert jobs_share_environment(workflow())
    assert not jobs_share_environment(workflow(remote_exec=True))
    elsewhere = SimpleNamespace(deployment_method={"apptainer"})
    assert not jobs_share_environment(workflow(deployment_settings=elsewhere))


def test_a_workflow_without_an_attribute_is_refused_with_the_name_of_the_file():
    with pytest.raises(UpstreamError, match=r"local_exec does not exist.*snakemake_execution"):
        schedules_local_jobs(SimpleNamespace(is_main_process=True))
