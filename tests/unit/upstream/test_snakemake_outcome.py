"""Protects how a failed run is read: which jobs failed, what they stop, what is not made."""

from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import snakemake.api  # noqa: F401  first, because its modules import each other
from pte_foundry.place import Folder
from pte_foundry.upstream.snakemake_outcome import forget, outcome
from pte_foundry.upstream.versions import UpstreamError
from snakemake.dag import DAG
from snakemake.io import IOFile
from snakemake.persistence import PersistenceBase
from snakemake.scheduling.job_scheduler import JobScheduler

from tests.storage_folder import storage_in
from tests.unit.upstream.source_digest import assert_source_digest


class Job:
    def __init__(self, rule: str, *output: str, log: str = "", **wildcards: str) -> None:
        self.rule = SimpleNamespace(name=rule)
        self.output, self.log, self.wildcards_dict = output, [log] if log else [], wildcards

    def is_group(self) -> bool:
        return False


class Group:
    def __init__(self, *jobs: Job) -> None:
        self.jobs = jobs

    def is_group(self) -> bool:
        return True


EXPORT = Job("export", "m.pt2", "m.json", log="logs/export.log", model="m")
LOWER = Job("lower", "m.pte")
VALIDATE = Job("validate", "m-report.json")
OTHER = Job("validate", "other-report.json")
SUMMARY = Job("summary", "summary.json")
NEXT = {EXPORT: [LOWER], LOWER: [VALIDATE], VALIDATE: [SUMMARY], OTHER: [SUMMARY]}


def workflow(failed, finished=(), needrun=(EXPORT, LOWER, VALIDATE, SUMMARY), main=True):
    depending = defaultdict(dict)
    for job, following in NEXT.items():
        depending[job] = dict.fromkeys(following)
    dag = SimpleNamespace(
        depending=depending,
        finished=lambda job: job in finished,
        needrun_jobs=lambda exclude_finished=True: (j for j in needrun if j not in finished),
    )
    scheduler = SimpleNamespace(failed=set(failed))
    return SimpleNamespace(is_main_process=main, dag=dag, scheduler=scheduler)


def test_snakemake_still_has_what_is_used():
    used = vars(DAG).keys() | set(DAG.__init__.__code__.co_names)
    assert {"depending", "finished", "needrun_jobs"} <= used
    assert "failed" in JobScheduler.__init__.__code__.co_names
    digest = "255b52a98a34627523867bb0f1cbd57892c661a2d7d15c862e32cf879760d327"
    check = "Is a job still among `failed` only after its last attempt?"
    assert_source_digest(JobScheduler._handle_error, digest, check)


def test_a_failed_job_stops_all_that_wait_for_it_and_nothing_else():
    found = outcome(workflow([EXPORT]), Folder())
    (job,) = found.failed
    assert (job.rule, job.wildcards, job.log) == ("export", {"model": "m"}, "logs/export.log")
    assert job.stops == {"m.pt2", "m.json", "m.pte", "m-report.json", "summary.json"}
    assert found.unmade == job.stops


def test_what_ended_well_is_not_unmade():
    found = outcome(workflow([SUMMARY], finished=(EXPORT, LOWER, VALIDATE)), Folder())
    assert found.unmade == {"summary.json"}


def test_of_a_failed_group_only_what_is_neither_made_nor_waiting_has_failed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("m.pt2", "m.json"):
        (tmp_path / name).touch()
    found = outcome(workflow([Group(EXPORT, LOWER, VALIDATE)]), Folder())
    assert [job.rule for job in found.failed] == ["lower"]
    assert found.failed[0].log == ""
    assert found.unmade == {"m.pte", "m-report.json", "summary.json"}


def test_in_a_storage_files_keep_their_names_and_what_is_there_was_made(tmp_path):
    storage = storage_in(tmp_path / "buckets", tmp_path / "copies")

    def in_storage(job):
        copies = [str(storage.base / name) for name in job.output]
        logs = [str(storage.base / name) for name in job.log]
        return Job(job.rule.name, *copies, log="".join(logs), **job.wildcards_dict)

    export, lower = in_storage(EXPORT), in_storage(LOWER)
    storage.base.mkdir(parents=True)
    for name in EXPORT.output:
        (storage.base / name).touch()
        storage.store(name)
        (storage.base / name).unlink()
    run = workflow([Group(export, lower)], needrun=(export, lower))
    run.dag.depending = {export: [lower], lower: []}
    found = outcome(run, storage)
    assert [(job.rule, job.stops) for job in found.failed] == [("lower", {"m.pte"})]
    assert found.unmade == {"m.pte"}
    run.scheduler.failed = {export}
    (job,) = outcome(run, storage).failed
    assert job.log == "logs/export.log"


@pytest.mark.parametrize("changes", [{"main": False}, {"failed": ()}])
def test_a_process_for_one_job_and_an_interrupted_run_have_no_outcome(changes):
    assert outcome(workflow(**{"failed": [EXPORT]} | changes), Folder()) is None


def test_a_workflow_without_an_attribute_is_refused_with_the_name_of_the_file():
    with pytest.raises(UpstreamError, match=r"dag does not exist.*snakemake_outcome"):
        outcome(SimpleNamespace(is_main_process=True), Folder())


def test_a_record_is_deleted_by_the_file_that_snakemake_takes():
    deleted = []

    class Persistence:
        def cleanup_metadata(self, target):
            deleted.append(PersistenceBase._get_key(self, target))

    run = SimpleNamespace(persistence=Persistence())
    forget(run, "results/summary.json", Folder())
    forget(run, "results/summary.json", storage_in(Path("buckets"), Path("copies")))
    assert deleted == [
        str(IOFile("results/summary.json")),
        "mem://bucket/run/results/summary.json",
    ]
