"""Protects that no second build begins between the parts of one: the lock is held throughout."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from pte_foundry.cli.main import INTERRUPTED
from pte_foundry.workflow import build_lock
from pte_foundry.workflow.build_lock import FOLDER, RECORD, BuildLock, BusyError

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(build_lock.__file__).parents[2])}
MAIN = "import sys; from pte_foundry.cli.main import main; sys.exit(main())"
# What Snakemake does, and then the next command of a shell. It says so, and ends on a line.
PART = """
import sys
from pathlib import Path
from pte_foundry.workflow.resume import begin
begin(Path.cwd()).release()
print("begun", flush=True)
sys.exit(int(sys.stdin.readline()))
"""
SHELL = f"{sys.executable} -c '{PART}' || true; {sys.executable} -c '{PART}'"

HANG_UP = "kill -HUP $PPID; kill -HUP $$; echo alive"


def heed_signals():
    """What ``nohup``, or a shell that runs the tests in its background, has switched off."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def resuming(folder, *command):
    """A ``pte-foundry resume`` that runs a command."""
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, "resume", "--", *command],
        cwd=folder,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_signals,
    ) as running:
        yield running


def refused(folder: Path) -> str:
    with pytest.raises(BusyError) as busy:
        BuildLock(folder).acquire(force=True)
    return str(busy.value)


def go_on(running: subprocess.Popen, code: int) -> None:
    running.stdin.write(f"{code}\n")
    running.stdin.flush()


def test_the_commands_of_one_build_have_its_lock_and_no_other_does(tmp_path):
    with resuming(tmp_path, "bash", "-c", SHELL) as running:
        for code in (1, 7):
            assert running.stdout.readline() == "begun\n"
            assert f"process {running.pid} " in refused(tmp_path)
            go_on(running, code)
        assert running.wait() == 7
    lock = BuildLock(tmp_path)
    assert not lock.acquire()
    lock.release()


def test_what_goes_on_after_a_kill_has_the_lock_until_it_ends(tmp_path):
    with resuming(tmp_path, sys.executable, "-c", PART) as running:
        assert running.stdout.readline() == "begun\n"
        running.kill()
        time.sleep(0.1)
        refused(tmp_path)
        go_on(running, 0)
        running.stdout.read()  # until the command has closed it
    time.sleep(0.1)
    lock = BuildLock(tmp_path)
    assert lock.acquire()
    lock.release()


@pytest.mark.parametrize(
    ("number", "group"), [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGHUP, False)]
)
def test_what_ends_it_ends_its_commands_too(tmp_path, number, group):
    """Ctrl-C reaches all processes of a terminal; a supervisor reaches this one alone."""
    with resuming(tmp_path, "bash", "-c", SHELL) as running:
        assert running.stdout.readline() == "begun\n"
        below = psutil.Process(running.pid).children(recursive=True)
        (os.killpg if group else os.kill)(running.pid, number)
        assert running.wait(30) == 128 + number
        assert not psutil.wait_procs(below, 5)[1]
        assert running.stdout.read() == ""
    assert not (tmp_path / FOLDER / RECORD).exists()
    assert INTERRUPTED == 128 + signal.SIGINT


def test_a_build_in_the_background_outlives_its_terminal(tmp_path):
    done = subprocess.run(
        ["nohup", sys.executable, "-c", MAIN, "resume", "--", "bash", "-c", HANG_UP],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "alive\n")


def test_make_has_the_lock_from_its_first_command_to_its_last(tmp_path):
    """Each of its Snakemakes finds the record of the same process, which is none of them."""
    for part in ("Makefile", "config"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        copy(ROOT / part, tmp_path / part)
    path = f"PYTHONPATH={ENVIRONMENT['PYTHONPATH']}"  # make unsets it
    programs = {
        "snakemake": f'echo "$@"; cat {FOLDER / RECORD}; echo',
        "pte-foundry": f"""{path} exec {sys.executable} -c '{MAIN}' "$@" """,
    }
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/bash\n{text}\n")
        program.chmod(0o755)
    done = subprocess.run(
        ["make", "--no-print-directory", "--old-file=environment", "CORES=2"],
        cwd=tmp_path,
        env=ENVIRONMENT | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout.splitlines()
    built = [line.split()[-1] for line in said if line.startswith("--logger")]
    assert built == ["export", "2"], done
    records = [line for line in said if line.startswith("{")]
    assert len(records) == 2
    assert records[0] == records[1]
    assert not (tmp_path / FOLDER / RECORD).exists()
