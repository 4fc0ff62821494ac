"""Protects builds from what happens to machines: killed processes, full and damaged disks.

Every test ends with `make` as a user would type it again, and compares bytes with an undisturbed
build.
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from pte_foundry.workflow.resume import is_snakemake, step_of

from tests.project import CONFIG, Project

pytestmark = pytest.mark.slow

ARTIFACT = "results/pte/digits_cnn/int8_static/ios17.pte"
# One build that goes through every stage.
ONE_BUILD = CONFIG[: CONFIG.index("builds:")] + (
    "builds:\n  - {models: [digits_cnn], recipes: [int8_static], targets: [ios17]}\n"
)
# All steps write in the same way; these differ in what they read, and in the time they take.
STAGES = ("fetch", "train", "export", "calibrate", "lower", "pte", "validate", "manifest", "report")


def make(project: Project, *arguments: str) -> subprocess.Popen:
    """Starts `make` with the environment of this test, which is the one that `make test` made."""
    if not (project.folder / ".venv").exists():
        environment = Path(sys.prefix).resolve()
        (project.folder / ".venvs").symlink_to(environment.parent)
        (project.folder / ".venv").symlink_to(f".venvs/{environment.name}")
    return subprocess.Popen(
        ["make", "CORES=2", *arguments],
        cwd=project.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def made(project: Project) -> tuple[int, str]:
    """Exit code and output of a `make` to its end."""
    running = make(project)
    output, _ = running.communicate(timeout=600)
    return running.returncode, output


def assert_made(project: Project) -> None:
    code, output = made(project)
    assert code == 0, output


def half_written(project: Project) -> list[Path]:
    return [path for path in (project.folder / "results").rglob("*") if path.name.startswith(".")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Project:
    project = Project(tmp_path_factory.mktemp("undisturbed"), ONE_BUILD)
    project.build()
    return project


@pytest.fixture
def wanted(undisturbed) -> bytes:
    return (undisturbed.folder / ARTIFACT).read_bytes()


@pytest.fixture
def finished(undisturbed, tmp_path) -> Project:
    """A copy of a finished build, to damage."""
    return undisturbed.copy(tmp_path / "finished")


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def kill(running: subprocess.Popen, stages: set[str], victim: str) -> set[str]:
    """Kills every step of ``stages`` that runs below ``running``, or the Snakemake of the first.

    Returns the stages that were hit, when `make` has ended.
    """
    top, hit = psutil.Process(running.pid), set()
    while running.poll() is None:
        try:
            children = top.children(recursive=True)
        except psutil.NoSuchProcess:
            break
        for process in children:
            stage = step_of(command_of(process))
            if stage not in stages:
                continue
            if victim == "step":
                process.kill()
                hit.add(stage)
            elif not hit:
                next(p for p in process.parents() if is_snakemake(command_of(p))).kill()
                hit.add(stage)
        time.sleep(0.01)
    return hit


# A step may be killed in every stage; Snakemake itself does the same in all of them.
@pytest.mark.parametrize(
    ("victim", "stages"), [("step", STAGES), ("snakemake", ("lower", "manifest"))]
)
def test_whatever_is_killed_the_next_make_goes_on(tmp_path, wanted, victim, stages):
    project = Project(tmp_path / "killed", ONE_BUILD)
    left = set(stages)
    while left:
        running = make(project)
        hit = kill(running, left, victim)
        output, _ = running.communicate(timeout=600)
        assert hit, f"`make` ended without {sorted(left)}:\n{output}"
        assert running.returncode != 0, f"killed {hit}:\n{output}"
        left -= hit
    assert_made(project)
    assert (project.folder / ARTIFACT).read_bytes() == wanted
    assert not half_written(project)


def test_two_makes_at_once(tmp_path, wanted):
    """One builds; the other says in one line that it is busy, and disturbs nothing."""
    project = Project(tmp_path / "twice", ONE_BUILD)
    first = make(project)
    while not (project.folder / "results").exists():
        assert first.poll() is None
    code, output = made(project)
    assert code != 0
    assert "another build is working in this folder (process " in output
    output, _ = first.communicate(timeout=600)
    assert first.returncode == 0, output
    assert (project.folder / ARTIFACT).read_bytes() == wanted


@pytest.mark.parametrize(
    ("damage", "pattern"),
    [
        ("flip", "results/export/digits_cnn.pt2"),
        ("truncate", "results/reference/digits_cnn.safetensors"),
        ("flip", "results/lower/digits_cnn/int8_static/*.pte"),
        ("flip", ARTIFACT),
    ],
)
def test_a_damaged_file_is_never_used(finished, wanted, damage, pattern):
    (path,) = finished.folder.glob(pattern)
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    path.write_bytes(flipped if damage == "flip" else whole[:middle])
    done = finished.snakemake()
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0, said
    assert f"{path.relative_to(finished.folder)} is damaged" in said
    assert "Delete it and rerun" in said
    path.unlink()
    finished.build()
    assert finished.jobs() == set()
    # What nothing asks for again stays away.
    assert not path.exists() or path.read_bytes() == whole
    assert (finished.folder / ARTIFACT).read_bytes() == wanted


def test_bit_rot_is_found_and_the_command_that_is_named_repairs_it(finished, wanted):
    """Snakemake does not see it: the date is the same. Nothing but the artifact and its validation
    is made again."""
    path = finished.folder / ARTIFACT
    status = path.stat()
    path.write_bytes(bytes([wanted[0] ^ 1]) + wanted[1:])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert finished.jobs() == set()
    verify = [sys.executable, "-m", "pte_foundry", "verify"]
    found = subprocess.run(
        verify, cwd=finished.folder, env=finished.environment(), capture_output=True, text=True
    )
    assert found.returncode == 1, found.stderr
    assert f"damaged: {ARTIFACT}: checksum mismatch" in found.stdout
    command, *arguments = shlex.split(found.stdout.splitlines()[-1])
    assert command == "snakemake"
    done = finished.snakemake(*arguments)
    assert "2/2  Validating " in done.stderr, done.stderr
    done = finished.snakemake(*arguments)
    assert "2/2  Validating " in done.stderr, done.stderr
    assert path.read_bytes() == wanted


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of ``size`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a file system is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_is_told_and_the_build_goes_on_when_there_is_space(tmp_path, wanted):
    project = Project(tmp_path / "full", ONE_BUILD)
    results = project.folder / "results"
    with small_disk(results, "600k"):
        code, output = made(project)
        assert code != 0
        assert "No space left on device" in output
        assert "Traceback" not in output
        assert not half_written(project)
        assert not list(results.rglob("*.pte"))
        subprocess.run(["mount", "-o", "remount,size=500m", results], check=True)
        assert_made(project)
        assert (project.folder / ARTIFACT).read_bytes() == wanted


def test_results_that_cannot_be_written(tmp_path):
    project = Project(tmp_path / "read-only", ONE_BUILD)
    results = project.folder / "results"
    with small_disk(results, "1m"):
        subprocess.run(["mount", "-o", "remount,ro", results], check=True)
        code, output = made(project)
    assert code != 0
    assert "Read-only file system" in output
    assert "Traceback" not in output
