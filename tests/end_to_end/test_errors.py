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


def test_a_combination_asked_for_by_path_is_refused_before_any_work(fresh):
    done = fresh.snakemake(
        "results/pte/digits_cnn/int8_static/ios16.pte", "results/pte/a/fp16/x.pte"
    )
    assert done.returncode != 0
    assert not (fresh.folder / "results").exists()
    message = " ".join(done.stderr.split())
    for part in ("int8_static/ios16.pte", "needs iOS17", "no model a", "no target x", "2 files"):
        assert part in message, message
    assert "MissingRuleException" not in message


HOLD = """\
import sys
from pathlib import Path
from pte_foundry.workflow.build_lock import BuildLock

lock = BuildLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_build_in_a_folder_is_refused_before_any_work(fresh):
    """Another process builds there, as far as Snakemake can tell; a dry run disturbs nobody."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, fresh.folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        assert f"is working in this folder (process {holder.pid} of " in refused(fresh)
        assert fresh.snakemake("--dry-run").returncode == 0
        holder.stdin.close()


def test_a_folder_with_any_characters_works_or_is_refused_in_a_sentence(tmp_path):
    """No shell and no Snakemake takes a part of the path for a command or a wildcard."""
    target = "results/fetch/digits_cnn/digits/digits.csv.gz"
    strange = Project(tmp_path / 'it\'s "$(touch pwned)"; touch pwned #%*\\&\n{x}')
    strange.build(target)
    assert (strange.folder / target).exists()
    assert not list(tmp_path.rglob("pwned"))
    done = strange.snakemake("--directory", str(tmp_path / "out"), "--", target)
    assert done.returncode != 0
    assert "has braces, which Snakemake takes for wildcards" in " ".join(done.stderr.split())


def test_a_dry_run_names_what_has_changed(project):
    """The file of the code, and the key of the config with both values."""
    path = "scripts/pte_foundry/lowering/coreml.py"
    project.write(path, project.read(path) + "\nNEW = 1\n")
    project.replace(CONFIG, "weight_per_channel: false", "weight_per_channel: true")
    done = project.snakemake("--dry-run")
    reasons = [line for line in done.stdout.splitlines() if line.startswith("  reason: ")]
    jobs = [line for line in done.stdout.splitlines() if line.startswith("would run: ")]
    assert len(reasons) == len(jobs) > 10, "each job has a reason"
    assert any(line.endswith("code: pte_foundry/lowering/coreml.py") for line in reasons)
    change = "config: recipe.global_config.weight_per_channel: false -> true"
    assert any(line.endswith(change) for line in reasons), reasons


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
