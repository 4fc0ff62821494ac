"""Protects against artifacts of an old configuration that pass for new ones after a failed step."""

import subprocess
import sys
from pathlib import Path

import pytest
from pte_foundry.upstream.snakemake_failed_records import keep_records_of_failed_jobs
from snakemake.jobs import Job

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


@pytest.fixture
def restored():
    before = Job.postprocess
    yield
    Job.postprocess = before


def test_it_is_installed_once(restored):
    keep_records_of_failed_jobs()
    once = Job.postprocess
    keep_records_of_failed_jobs()
    assert Job.postprocess is once
