"""Protects that what is asked for by path is checked before Snakemake plans anything."""

from types import SimpleNamespace

import pytest
from pte_foundry.upstream.snakemake_targets import before_planning
from pte_foundry.upstream.versions import UpstreamError
from snakemake.api import Workflow
from snakemake.settings.types import DAGSettings

from tests.unit.upstream.source_digest import assert_source_digest


class Made:
    """A workflow as far as it is used."""

    def __init__(self, main: bool = True, *targets: str) -> None:
        self.is_main_process = main
        self.dag_settings = None
        self.targets = targets
        self.planned = []
        self.until = frozenset()

    def _prepare_dag(
        self, forceall, ignore_incomplete, lock_warn_only, nolock=False, shadow_prefix=None
    ):
        self.planned.append(forceall)

    def run(self, lock_warn_only=False, **named):
        """As Snakemake: the settings come after the Snakefile has been read."""
        self.dag_settings = DAGSettings(targets=frozenset(self.targets), until=self.until)
        self._prepare_dag(
            forceall=True, ignore_incomplete=False, lock_warn_only=lock_warn_only, **named
        )


def test_planning_still_begins_there():
    """If this fails: do the targets still come from dag_settings, and is it called for all?"""
    digest = "ebf5bb8da7c83cd4b53c30139361f74d5666763d60940dd686b90871a2b8dcf1"
    check = "Is `_prepare_dag` still called before the planning, with `dag_settings.targets` set?"
    assert_source_digest(Workflow._prepare_dag, digest, check)


def test_targets_are_given_in_order_and_planning_goes_on():
    workflow, seen = Made(True, "b", "a"), []
    workflow.until = {"pte"}
    before_planning(workflow, lambda *given: seen.append(given) or [])
    workflow.run()
    assert (seen, workflow.planned) == ([(["a", "b"], ["pte"])], [True])
    assert workflow.dag_settings.targets == {"a", "b"}


def test_a_run_makes_what_the_check_returns_as_well():
    workflow = Made(True, "b", "a")
    before_planning(workflow, lambda targets, until: [*targets, "c"])
    workflow.run()
    assert workflow.dag_settings.targets == {"a", "b", "c"}


def test_a_refused_target_ends_the_run_before_planning():
    def refuse(targets, until):
        raise ValueError(targets)

    workflow = Made(True, "a")
    before_planning(workflow, refuse)
    with pytest.raises(ValueError, match="a"):
        workflow.run()
    assert not workflow.planned


def test_a_process_that_executes_one_job_checks_nothing():
    workflow, seen = Made(False, "a"), []
    before_planning(workflow, lambda *given: seen.append(given))
    workflow.run()
    assert (seen, workflow.planned) == ([], [True])


@pytest.mark.parametrize(
    ("run", "begun"),
    [({}, 1), ({"nolock": False}, 1), ({"nolock": True}, 0), ({"lock_warn_only": True}, 0)],
)
def test_a_run_begins_before_planning_if_it_locks_its_files(run, begun):
    """Not a dry run, and not with --nolock."""
    workflow, seen = Made(), []
    before_planning(workflow, begin=lambda: seen.append(list(workflow.planned)))
    workflow.run(**run)
    assert (seen, workflow.planned) == ([[]] * begun, [True])


def test_a_workflow_without_the_method_is_refused_with_the_name_of_the_file():
    with pytest.raises(UpstreamError, match=r"_prepare_dag does not exist.*snakemake_targets"):
        before_planning(SimpleNamespace(is_main_process=True), print)
