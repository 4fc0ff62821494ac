"""Protects that the end of a run is told, also if there was nothing to do, and can make it fail."""

import threading
from contextlib import contextmanager
from queue import Queue
from types import SimpleNamespace

import pytest
from pte_foundry.upstream.snakemake_end import at_the_end
from pte_foundry.upstream.versions import UpstreamError
from snakemake.api import Workflow
from snakemake.exceptions import WorkflowError, format_exception_to_string

from tests.unit.upstream.source_digest import assert_source_digest


class Made:
    """A workflow as far as it is used; ``run`` does what Snakemake does."""

    def __init__(self, main=True, dryrun=False, needed=(), listening=False):
        self.told = []
        self.is_main_process, self.dryrun = main, dryrun
        self._needed = list(needed)
        self._queue = Queue()
        self.logger_manager = SimpleNamespace(queue_listener=listening or None, _queue=self._queue)
        self._onsuccess = lambda log: self.told.append(f"success {log}")
        self._onerror = lambda log: self.told.append(f"error {log}")

    def _build_dag(self):
        self.dag = SimpleNamespace(needrun_jobs=lambda exclude_finished=True: iter(self._needed))

    def run(self, failed=False):
        self._build_dag()
        if self._needed and not self.dryrun:
            (self._onerror if failed else self._onsuccess)("log")

    def conclude(self, why=""):
        return lambda failed: self.told.append(f"end {failed}") or why


@contextmanager
def locked():
    """As the lock that Snakemake holds: on leaving it, an exception gets its traceback."""
    yield


def test_snakemake_still_ends_so():
    """If this fails: is a run with nothing to do still over before `onsuccess`?"""
    digest = "ab01c47606d43dd91695b150b715c297d4c7b578739cf3eae79d71616347234d"
    check = "Is `_onsuccess` or `_onerror` called at the end, and neither with nothing to do?"
    assert_source_digest(Workflow.execute, digest, check)


@pytest.mark.parametrize(
    ("workflow", "failed", "told"),
    [
        (Made(needed=["job"]), False, ["success log", "end False"]),
        (Made(needed=["job"]), True, ["error log", "end True"]),
        (Made(), False, ["end False"]),
        (Made(dryrun=True), False, []),
        (Made(dryrun=True, needed=["job"]), False, []),
        (Made(main=False, needed=["job"]), False, ["success log"]),
    ],
)
def test_a_run_ends_once_after_the_handlers_of_the_snakefile(workflow, failed, told):
    at_the_end(workflow, workflow.conclude())
    workflow.run(failed)
    assert workflow.told == told


@pytest.mark.parametrize("needed", [[], ["job"]])
def test_a_reason_makes_the_run_fail(needed):
    workflow = Made(needed=needed)
    at_the_end(workflow, workflow.conclude("the gate is missed"))
    with pytest.raises(WorkflowError) as raised, locked():
        workflow.run()
    told = format_exception_to_string(raised.value, {})
    assert " ".join(told.split()) == "WorkflowError: the gate is missed", "no lines of a patch"


def test_a_run_that_has_failed_tells_its_own_reason():
    workflow = Made(needed=["job"])
    at_the_end(workflow, workflow.conclude("the gate is missed"))
    workflow.run(failed=True)
    assert workflow.told[-1] == "end True"


def test_what_loggers_were_told_is_printed_before():
    workflow = Made(needed=["job"], listening=True)
    at_the_end(workflow, workflow.conclude())

    def listen():
        for _ in range(3):
            workflow.told.append(workflow._queue.get())
            workflow._queue.task_done()

    for line in ("one", "two", "three"):
        workflow._queue.put(line)
    timer = threading.Timer(0.05, listen)
    timer.start()
    workflow.run()
    assert workflow.told == ["success log", "one", "two", "three", "end False"]


def test_a_workflow_without_the_handlers_is_refused_with_the_name_of_the_file():
    with pytest.raises(UpstreamError, match=r"_onsuccess does not exist.*snakemake_end"):
        at_the_end(SimpleNamespace(is_main_process=True), lambda failed: "")
