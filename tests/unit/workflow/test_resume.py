"""Protects what is not ours: cleaning up after a killed build removes our own files only."""

import os
import subprocess
import sys
import time
from pathlib import Path

from pte_foundry import files
from pte_foundry.files import replacing
from pte_foundry.upstream.snakemake_locks import LOCKS
from pte_foundry.workflow.resume import begin

# A step of a build whose Snakemake was killed, as its command line shows it.
STEP = "import time; time.sleep(float(__import__('sys').argv[-1]))"


def content(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def interrupted(path: Path) -> Path:
    """What a process leaves that is killed while it writes ``path``."""
    with replacing(path) as temporary:
        left = temporary.with_name(temporary.name)
        copy = temporary.read_bytes()
    path.unlink()
    left.write_bytes(copy)
    return left


def clean(folder: Path) -> None:
    begin(folder, builds=False).release()


def test_nothing_is_removed_but_what_our_steps_were_writing(tmp_path):
    results = tmp_path / "results"
    theirs = [
        ".gitattributes",
        "pte/.gitkeep",
        "pte/.a.pte.x8df_2aa.pte",  # as older versions wrote
        "fetch/net/weights/.weights.bin",
        ".ipynb_checkpoints/a-checkpoint.ipynb",
        ".pte-foundry-tmp-notes",
        ".dvc/.pte-foundry-tmp-0123abcd-abcdefgh.d/config",  # a folder of such a name
    ]
    for name in theirs:
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_text("precious")
    subprocess.run(["git", "init", "-q", results], check=True)
    outside = tmp_path / "outside"
    outside.write_text("precious")
    link = interrupted(results / "x.bin")
    link.unlink()
    link.symlink_to(outside)
    before = content(tmp_path)
    ours = [interrupted(tmp_path / place / "a b.pte") for place in ("results/pte", "benchmarks")]
    ours += [interrupted(results / "lower" / name) for name in ("x" * 250, ".hidden", "a.tar gz")]
    clean(tmp_path)
    assert not [path for path in ours if path.exists()]
    left = {name for name in content(tmp_path) if not name.startswith(".snakemake")}
    assert left >= before
    assert outside.read_text() == "precious"


def test_a_job_of_a_cluster_that_still_writes_keeps_its_file_for_a_day(tmp_path, monkeypatch):
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(files, "_place", lambda: "0123abcd")
        left = interrupted(tmp_path / "results/a.pt2")
    clean(tmp_path)
    assert left.exists()
    os.utime(left, (time.time() - 90_000,) * 2)
    clean(tmp_path)
    assert not left.exists()


def test_locks_of_a_killed_snakemake_go_without_its_configuration(tmp_path):
    (tmp_path / LOCKS).mkdir(parents=True)
    for name in ("0.input.lock", "0.output.lock", "notes"):
        (tmp_path / LOCKS / name).touch()
    clean(tmp_path)
    assert content(tmp_path / LOCKS) == {"notes"}


def test_steps_of_a_killed_build_are_waited_for(tmp_path, capsys):
    (tmp_path / LOCKS).mkdir(parents=True)
    (tmp_path / LOCKS / "0.input.lock").touch()
    arguments = ["-m", "pte_foundry.steps.lower", "--log", "1"]
    step = subprocess.Popen([sys.executable, "-c", STEP, *arguments], cwd=tmp_path)
    time.sleep(0.2)
    clean(tmp_path)
    assert "Waiting for the steps" in capsys.readouterr().err
    assert step.wait(0.1) == 0
