"""Protects what a failed run leaves: all builds in the summary, and nothing of an earlier run."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pte_foundry.config.config import load
from pte_foundry.files import read_json, write_json
from pte_foundry.place import Folder
from pte_foundry.upstream.snakemake_outcome import FailedJob, Outcome
from pte_foundry.workflow.failures import (
    MANIFEST,
    PAGE,
    SILENT,
    STOPPED,
    SUMMARY,
    FailedRun,
    message_of,
)

from tests.made_up_reports import path_of, report
from tests.storage_folder import storage_in

CONFIG = """\
models:
  good: {module: net.py, weights: {train: true}}
  bad: {module: net.py, weights: {train: true}}
recipes:
  fp16: {scheme: none}
  int8: {scheme: quantize, steps: [{affine: {weight_dtype: int8, granularity: {axis: 0}}}]}
targets:
  ios18: {minimum_os: iOS18}
builds:
  - {models: "*", recipes: "*", targets: "*"}
"""
NET = "def build(): ...\ndef train(): ...\ndef example_inputs(): ...\ndef evaluation(): ...\n"
ENDS = (SUMMARY, PAGE, "results/gates.json")
GOOD = [path_of(report("good", recipe, "ios18")) for recipe in ("fp16", "int8")]
BAD = [path_of(report("bad", recipe, "ios18")) for recipe in ("fp16", "int8")]


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project with the validation reports of all builds."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    Path("config.yaml").write_text(CONFIG)
    for model in ("good", "bad"):
        for recipe in ("fp16", "int8"):
            one = report(model, recipe, "ios18")
            write_json(Path(path_of(one)), one)
    return tmp_path


def failed(rule: str, log: str, *stops: str, **wildcards: str) -> FailedJob:
    return FailedJob(rule, wildcards, log, frozenset(stops))


def run(*jobs: FailedJob, also: tuple[str, ...] = (), killed=None) -> FailedRun:
    unmade = {file for job in jobs for file in job.stops} | set(also)
    config = load([Path("config.yaml")], Path.cwd())
    found = Outcome(jobs, frozenset(unmade))
    return FailedRun(config, found, time.time() - 60, killed or {}, Folder())


def export(*more: str) -> FailedJob:
    Path("export.log").write_text("noise\nerror: net.py:3: no luck (traceback in export.log)\n")
    return failed("export", "export.log", *BAD, *ENDS, *more, model="bad")


def errors(summary: dict) -> dict[str, str]:
    return {
        "/".join(b["build"].values()): b["error"]["message"]
        for b in summary["builds"]
        if "error" in b
    }


def test_an_old_report_does_not_vouch_for_what_failed_now(project, capsys):
    """The reports of the broken model exist, from a run before it was broken, and pass."""
    assert run(export()).conclude() == [SUMMARY, PAGE]
    summary = read_json(Path(SUMMARY))
    message = "net.py:3: no luck"
    assert errors(summary) == {"bad/fp16/ios18": message, "bad/int8/ios18": message}
    assert (summary["totals"]["passed"], summary["totals"]["failed"]) == (2, 2)
    (first, *_) = summary["builds"]
    assert first["error"] == {
        "stage": "export",
        "message": message,
        "log": "export.log",
        "subject": "bad",
    }
    assert (first["scheme"], first["minimum_os"]) == ("none", "iOS18")
    told = capsys.readouterr().err
    assert told.count(message) == 1
    assert f"FAIL bad: export failed: {message} (stops 2 builds; log: export.log)" in told
    assert f"page: {PAGE}" in told
    assert message in Path(PAGE).read_text()


def test_what_is_written_is_older_than_its_inputs(project):
    """Else Snakemake takes it for up to date when a broken model is put back as it was."""
    run(export()).conclude()
    oldest = min(Path(path).stat().st_mtime for path in GOOD + BAD)
    assert Path(SUMMARY).stat().st_mtime < oldest
    assert Path(PAGE).stat().st_mtime < oldest


def test_in_a_storage_it_reads_and_writes_there_and_leaves_nothing_here(project, capsys):
    storage = storage_in(project / "buckets", project / "copies")
    objects = project / "buckets" / "bucket" / "run"
    storage.base.mkdir(parents=True)
    Path("results").rename(storage.base / "results")
    for name in GOOD:
        storage.store(name)
    write_json(objects / MANIFEST, {"of": "an earlier run"})
    shutil.rmtree(storage.base)  # as Snakemake does at the end of a run
    (storage.base / "logs").mkdir(parents=True)
    log = storage.base / "logs" / "export.log"
    log.write_text(f"error: net.py:3: no luck (traceback in {log})\n")
    os.utime(log, (1, 1))  # the storage's clock
    ran = run(failed("export", "logs/export.log", *BAD, *ENDS, MANIFEST, model="bad"))
    assert replace(ran, place=storage).conclude() == [SUMMARY, PAGE]
    summary = read_json(objects / SUMMARY)
    assert (summary["totals"]["passed"], summary["totals"]["failed"]) == (2, 2)
    assert set(errors(summary).values()) == {"net.py:3: no luck"}
    assert summary["builds"][0]["error"]["log"] == "logs/export.log"
    assert "no luck" in (objects / PAGE).read_text()
    assert not (objects / MANIFEST).exists()
    assert not Path("results").exists()
    assert not (storage.base / SUMMARY).exists()
    told = capsys.readouterr().err
    assert f"logs are in mem://bucket/run/, copies of this run's logs in {storage.base}" in told
    assert "page:" not in told


def test_a_storage_that_is_away_hides_no_failure(project, capsys):
    storage = storage_in(project / "buckets", project / "copies")
    storage._provider.down = True
    assert replace(run(export()), place=storage).conclude() == []
    told = capsys.readouterr().err
    assert "could not be written: the storage of the results cannot be used: mem://" in told
    assert "export failed" in told
    assert "Traceback" not in told


@pytest.mark.parametrize(("unmade", "left"), [((), True), ((MANIFEST,), False)])
def test_a_manifest_that_was_to_be_written_and_was_not_is_deleted(project, unmade, left):
    made = {"environment": {"versions": {}, "lock_sha256": "0"}, "artifacts": {}, "models": {}}
    write_json(Path(MANIFEST), made)
    write_json(Path("results/gates.json"), {"builds": 4})
    run(export(*unmade)).conclude()
    assert Path(MANIFEST).exists() == left
    assert not Path("results/gates.json").exists(), "it exists only if all builds pass"


def test_the_first_step_that_failed_is_the_cause(project):
    jobs = (
        failed("validate", "v.log", BAD[0], *ENDS, model="bad", recipe="fp16", target="ios18"),
        failed("reference", "r.log", *BAD, *ENDS, model="bad"),
    )
    stages = {b["error"]["stage"] for b in run(*jobs).summary()["builds"] if "error" in b}
    assert stages == {"reference"}


def test_builds_that_were_not_begun_are_told_apart(project):
    """Without --keep-going."""
    summary = run(export(), also=(GOOD[1],)).summary()
    assert errors(summary)["good/int8/ios18"] == STOPPED
    assert "good/fp16/ios18" not in errors(summary)


def test_a_damaged_report_is_a_failure_of_its_build_alone(project):
    Path(GOOD[0]).write_text("{ half")
    write_json(Path(GOOD[1]), {"a": 1})
    told = errors(run(failed("summary", "summary.log", *ENDS)).summary())
    assert "is damaged" in told["good/fp16/ios18"]
    assert "lacks" in told["good/int8/ios18"]
    assert len(told) == 2


def test_a_failure_that_stops_no_build_is_told_below_the_table(project, capsys):
    Path("plan.log").write_text("error: disk full\n")
    run(failed("plan", "plan.log", "results/plan/bad.json", *ENDS, model="bad")).conclude()
    assert read_json(Path(SUMMARY))["totals"]["failed"] == 0
    assert "FAIL bad: plan failed: disk full (log: plan.log)" in capsys.readouterr().err


def test_missed_gates_print_the_table_and_write_nothing(project, capsys):
    run(export()).conclude()
    before = Path(SUMMARY).read_bytes(), Path(PAGE).read_bytes()
    capsys.readouterr()
    assert run(failed("gates", "gates.log", "results/gates.json")).conclude() == []
    assert (Path(SUMMARY).read_bytes(), Path(PAGE).read_bytes()) == before
    told = capsys.readouterr().err
    assert "4 builds, 2 passed, 2 failed" in told
    assert "gates failed" not in told


def test_a_run_for_one_file_prints_its_failure_and_leaves_the_summary(project, capsys):
    Path("lower.log").write_text("error: no such op\nwith a second line\n")
    job = failed("lower", "lower.log", "results/lower/x.pte", model="bad", recipe="int8", key="k")
    assert run(job).conclude() == []
    assert not Path(SUMMARY).exists()
    told = capsys.readouterr().err
    assert "FAIL bad/int8: lower failed: no such op … (log: lower.log)" in told


def test_whatever_goes_wrong_here_the_failures_are_told(project, capsys, monkeypatch):
    monkeypatch.setattr(FailedRun, "summary", lambda self: 1 / 0)
    assert run(export()).conclude() == []
    told = capsys.readouterr().err
    assert "ZeroDivisionError" in told
    assert "FAIL bad: export failed: net.py:3: no luck" in told


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("error: a\nb\n", "a\nb"),
        (
            "error: first\nnoise\nerror: ValueError: last (traceback in step.log)\n",
            "ValueError: last",
        ),
        ("x" * 200_000 + "\nerror: end\n", "end"),
        ("no error: here\n", None),
        ("", None),
        ("error: \udcff\n", "\ufffd"),
    ],
)
def test_the_message_is_the_end_of_the_log(project, log, message):
    Path("step.log").write_bytes(log.encode("utf-8", "surrogateescape"))
    assert message_of(Path("step.log"), time.time() - 60) == message


def test_the_log_of_an_earlier_run_is_not_read(project):
    Path("step.log").write_text("error: long ago\n")
    os.utime("step.log", (1, 1))
    assert message_of(Path("step.log"), time.time() - 60) is None
    assert message_of(Path("none.log"), 0) is None


def test_a_killed_step_has_a_message_without_a_log(project):
    job = failed("lower", "none.log", BAD[0], model="bad", recipe="fp16")
    assert run(job).error_of(job)["message"] == SILENT
    known = run(job, killed={"none.log": "killed by SIGKILL (out of memory?)"})
    assert known.error_of(job)["message"] == "killed by SIGKILL (out of memory?)"
    assert known.error_of(failed("x", "", BAD[0]))["message"] == SILENT


def test_an_exported_program_is_named_by_its_model(project):
    job = failed("edge", "e.log", BAD[0], model="bad", program="_float", key="default")
    assert run(job).error_of(job)["subject"] == "bad"
