"""Protects against artifacts of an old configuration that pass for new ones after a failed step."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from pte_foundry.upstream.snakemake_failed_records import keep_records_of_failed_jobs
from snakemake.exceptions import WorkflowError
from snakemake.io import IOFile, flag
from snakemake.jobs import Job
from snakemake.persistence import PersistenceBase
from snakemake.settings.types import SharedFSUsage
from snakemake_interface_executor_plugins.settings import ExecMode

WORKFLOW = """\
from pte_foundry.upstream.snakemake_failed_records import keep_records_of_failed_jobs
{patch}

rule artifact:
    input: "intermediate"
    output: "artifact"
    shell: "cp {{input}} {{output}}"

rule intermediate:
    output: "intermediate"
    params: config["recipe"]
    shell: "test ! -e killed && echo {{params}} > {{output}}"
"""


def run(folder: Path, recipe: str) -> int:
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--config", f"recipe={recipe}"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode


def left_by_a_failed_step(folder: Path, patch: str) -> str:
    """The artifact after: built as `old`, step failed as `new`, built again as `new`."""
    (folder / "Snakefile").write_text(WORKFLOW.format(patch=patch))
    assert run(folder, "old") == 0
    (folder / "killed").touch()
    assert run(folder, "new") != 0
    (folder / "killed").unlink()
    assert run(folder, "new") == 0
    return (folder / "artifact").read_text().strip()


def test_snakemake_still_leaves_the_old_artifact(tmp_path):
    """If this fails, Snakemake records only successes: remove the patch."""
    assert left_by_a_failed_step(tmp_path, "") == "old"


def test_the_artifact_is_made_anew(tmp_path):
    assert left_by_a_failed_step(tmp_path, "keep_records_of_failed_jobs()") == "new"


def test_what_is_put_back_needs_no_work(tmp_path):
    (tmp_path / "Snakefile").write_text(WORKFLOW.format(patch="keep_records_of_failed_jobs()"))
    assert run(tmp_path, "old") == 0
    (tmp_path / "killed").touch()
    assert run(tmp_path, "new") != 0
    assert run(tmp_path, "old") == 0, "the step would fail if it ran"
    assert not (tmp_path / "intermediate").exists()


class Store(PersistenceBase):
    """Where Snakemake keeps its records, of which only the marks of started jobs matter here."""

    def __init__(self, started):
        self.at = started
        self.recorded = []

    def _get_key(self, f):
        return str(f)

    def _get_recorded_starttime(self, key):
        return self.at

    def _unmark_incomplete(self, key):
        pass


Store.__abstractmethods__ = frozenset()


def after_a_failed_group(tmp_path, monkeypatch, started, place=lambda path: path):
    """Which jobs of a group end well by Snakemake's records: one has made its output, one not."""
    store = Store(started)
    ended = {}

    async def postprocess(
        self,
        store_in_storage=True,
        handle_log=True,
        handle_touch=True,
        error=False,
        ignore_missing_output=False,
        check_output_mtime=True,
    ):
        ended[self.name] = not error
        await PersistenceBase.finished(store, self)

    async def finished(self, job):
        self.recorded.append(job.name)

    def begin(self, job, external_jobid=None):
        pass

    monkeypatch.setattr(Job, "postprocess", postprocess)
    monkeypatch.setattr(PersistenceBase, "started", begin)
    monkeypatch.setattr(PersistenceBase, "finished", finished)
    keep_records_of_failed_jobs()
    (tmp_path / "made").touch()
    for name in ("made", "missing"):
        dag = SimpleNamespace(get_job_group=lambda job: "group")
        job = SimpleNamespace(name=name, output=[place(tmp_path / name)], dag=dag)
        job = type("Job", (), vars(job) | {"__hash__": object.__hash__})()
        PersistenceBase.started(store, job)
        asyncio.run(Job.postprocess(job, error=True))
    return ended, store.recorded


def test_of_a_failed_group_what_was_made_is_kept(tmp_path, monkeypatch):
    ended = after_a_failed_group(tmp_path, monkeypatch, time.time() - 10)
    assert ended == ({"made": True, "missing": False}, ["made"])


def test_of_a_failed_group_what_is_in_a_storage_is_kept(tmp_path, monkeypatch):
    """Its local copies are on other machines, and its dates have no fractions of a second."""

    def stored(path):
        seconds = SimpleNamespace(mtime=lambda: path.stat().st_mtime // 1)
        return IOFile(flag(f"copies/{path.name}", "storage_object", seconds))

    ended = after_a_failed_group(tmp_path, monkeypatch, time.time(), stored)
    assert ended == ({"made": True, "missing": False}, ["made"])


def test_of_a_failed_group_what_is_older_is_not_taken_for_made(tmp_path, monkeypatch):
    ended = after_a_failed_group(tmp_path, monkeypatch, time.time() + 10)
    assert ended == ({"made": False, "missing": False}, [])


def records_after_a_failing_storage():
    """What happens to the records of a job whose outputs cannot be stored."""
    happened = []

    async def nothing(*arguments, **named):
        pass

    async def handle_storage(*arguments, **named):
        raise WorkflowError("no route to host")

    class Records(Store):
        def cleanup(self, job):
            happened.append("deleted")

        def _clear_cache(self):
            pass

        def _mark_incomplete(self, key, external_jobid):
            happened.append(f"{key} is incomplete")

    dag = SimpleNamespace(
        workflow=SimpleNamespace(
            storage_settings=SimpleNamespace(shared_fs_usage=SharedFSUsage.all()),
            execution_settings=SimpleNamespace(latency_wait=0, keep_incomplete=False),
            exec_mode=ExecMode.DEFAULT,
            persistence=Records(None),
        ),
        is_draft_notebook_job=lambda job: False,
        handle_touch=lambda job: None,
        handle_log=nothing,
        check_and_touch_output=nothing,
        unshadow_output=lambda job, only_log, keep_shadow_dir: None,
        handle_storage=handle_storage,
    )
    rule = SimpleNamespace(is_template_engine=False)
    job = type("One", (), {"dag": dag, "rule": rule, "is_local": True})()
    job.output = ["pte", "digest"]
    with pytest.raises(WorkflowError, match="no route to host"):
        asyncio.run(Job.postprocess(job))
    return happened


def test_snakemake_still_deletes_the_records_of_what_it_could_not_store(restored):
    """If this fails, only complete files have no record of being incomplete: remove the repair."""
    assert records_after_a_failing_storage() == ["deleted"]


def test_what_could_not_be_stored_is_made_again(restored):
    keep_records_of_failed_jobs()
    made_again = ["pte is incomplete", "digest is incomplete"]
    assert records_after_a_failing_storage() == ["deleted", *made_again]


@pytest.fixture
def restored(monkeypatch):
    monkeypatch.setattr(Job, "postprocess", Job.postprocess)
    monkeypatch.setattr(PersistenceBase, "started", PersistenceBase.started)
    monkeypatch.setattr(PersistenceBase, "finished", PersistenceBase.finished)


def test_it_is_installed_once(restored):
    keep_records_of_failed_jobs()
    once = Job.postprocess
    keep_records_of_failed_jobs()
    assert Job.postprocess is once
