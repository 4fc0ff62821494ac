"""Protects what users see when something is wrong: one message before any work, nothing left."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.project import Project

pytestmark = pytest.mark.slow

CONFIG = "config/config.yaml"


def refused(project: Project) -> str:
    """The message of a configuration that Snakemake refuses; nothing may have been made."""
    done = project.snakemake()
    assert done.returncode != 0
    assert not (project.folder / "results").exists()
    return " ".join(done.stderr.split())


@pytest.fixture
def fresh(tmp_path) -> Project:
    return Project(tmp_path / "fresh")


def test_all_errors_of_a_configuration_come_in_one_message(fresh):
    fresh.replace(CONFIG, "ios17: {minimum_os: iOS17", "ios17: {minimum_os: iOS16")
    fresh.replace(CONFIG, "sqnr_db: {min: 10}", "sqnr_db: {minimum: 10}")
    fresh.replace(CONFIG, "fp16: {scheme: none}", "fp16: {scheme: int8_dynamic}")
    fresh.replace(CONFIG, "targets: [ios17, ios17_ne]", "targets: [ios17, ios71]")
    message = refused(fresh)
    for part in ("minimum", "iOS17", "dynamic", "ios71", "config/config.yaml:", "did you mean"):
        assert part in message, message


def test_a_recipe_that_does_not_fit_its_model_is_refused_before_conversion(project):
    project.replace(CONFIG, "granularity: {axis: 0}", "granularity: {group_size: 48}")
    project.replace(CONFIG, "ios16: {minimum_os: iOS16", "ios16: {minimum_os: iOS18")
    project.replace(
        CONFIG,
        "global_config: {weight_per_channel: true",
        "module_name_configs: {no_such_layer: null}\n    global_config: {weight_per_channel: true",
    )
    before = project.artifacts()
    done = project.snakemake()
    message = " ".join(done.stderr.split())
    assert done.returncode != 0
    for part in ("group_size", "48", "no_such_layer", "int8_per_axis", "config/config.yaml:"):
        assert part in message, message
    assert project.artifacts() == before


def test_tampered_weights_name_both_digests_and_leave_nothing(fresh):
    fresh.write("digits.csv.gz", "not the data")
    fresh.replace(CONFIG, "        package: scikit-learn\n", "")
    fresh.replace(CONFIG, "file: sklearn/datasets/data/digits.csv.gz", "file: digits.csv.gz")
    done = fresh.snakemake()
    assert done.returncode != 0
    message = " ".join(done.stderr.split())
    assert "expected sha256 09f66e6debdee2cd" in message
    assert "found sha256" in message
    assert not list((fresh.folder / "results").rglob("*.gz"))


def printed_table(project: Project) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-P", "-m", "pte_foundry.cli", "table"],
        cwd=project.folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_failed_gate_is_told_after_everything_is_built(project):
    """The summary contains it; `make` turns it into its exit code with `pte-foundry table`."""
    project.replace(CONFIG, "sqnr_db: {min: 10}", "sqnr_db: {min: 150}")
    project.build()
    table = printed_table(project)
    assert table.returncode == 1
    assert "sqnr_db" in table.stdout
    assert "FAIL" in table.stdout
    project.replace(CONFIG, "sqnr_db: {min: 150}", "sqnr_db: {min: 150, on_fail: warn}")
    project.build()
    table = printed_table(project)
    assert table.returncode == 0, table.stdout
    assert "warn" in table.stdout


def test_an_interrupted_build_resumes(project):
    """A step that is killed leaves no output, and the next run makes it again."""
    artifact = project.folder / "results/pte/digits_cnn/int8_static/ios17.pte"
    wanted = artifact.read_bytes()
    for path in (project.folder / "results/lower/digits_cnn/int8_static").iterdir():
        path.unlink()
    artifact.unlink()
    log = next((project.folder / "logs/lower/digits_cnn/int8_static").glob("*.log"))
    log.unlink()  # it comes back as soon as the step starts
    running = subprocess.Popen(
        ["snakemake", "--cores", "1", str(artifact.relative_to(project.folder))],
        cwd=project.folder,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert log.exists()
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert not artifact.exists()
    project.snakemake("--unlock")
    project.build("--rerun-incomplete")
    assert artifact.read_bytes() == wanted
    assert not [p for p in project.folder.joinpath("results").rglob(".*") if p.is_file()]
