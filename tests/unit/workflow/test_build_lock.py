"""Protects a folder from a second build, from whatever container or host it is started."""

import errno
import fcntl
import getpass
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pte_foundry.workflow import build_lock
from pte_foundry.workflow.build_lock import FOLDER, BuildLock, BusyError, Holder

SCRIPTS = Path(build_lock.__file__).parents[2]
BUILD = """
import sys, time
from pathlib import Path
from pte_foundry.workflow.build_lock import BuildLock
BuildLock(Path(sys.argv[1])).acquire()
print("begun", flush=True)
time.sleep(600)
"""
CONTAINER = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.fixture(params=["here", "in another container"])
def other(request, tmp_path):
    """A process that builds in ``tmp_path``."""
    prefix = CONTAINER if request.param != "here" else []
    if prefix and subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no namespaces here")
    running = subprocess.Popen(
        [*prefix, sys.executable, "-c", BUILD, tmp_path],
        env=os.environ | {"PYTHONPATH": str(SCRIPTS)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout.readline() == "begun\n"
    yield running
    running.kill()
    running.wait()


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    assert tmp_path.absolute() / FOLDER not in build_lock._HELD, "a test has left it locked"


def record_of(folder: Path) -> Path:
    return folder / FOLDER / "build.json"


def leave_record(folder: Path, **changes: object) -> None:
    """What a build leaves that could not end: one of this process, but for ``changes``."""
    record_of(folder).parent.mkdir(parents=True, exist_ok=True)
    made = replace(Holder.this_process(), **changes)
    record_of(folder).write_text(json.dumps(made.__dict__))


def acquired(folder: Path, **options: bool) -> bool:
    lock = BuildLock(folder)
    try:
        return lock.acquire(**options)
    finally:
        lock.release()


def test_a_running_build_is_named_and_force_does_not_help(folder, other):
    """Another container and another process of this host hold the same lock of the kernel."""
    for force in (False, True):
        with pytest.raises(BusyError) as refused:
            acquired(folder, force=force)
        assert f"of {getpass.getuser()} on {platform.node()}, since 2" in str(refused.value)
    inside = "another container" in str(refused.value)
    assert inside or f"process {other.pid} " in str(refused.value)
    assert record_of(folder).exists()


def test_the_lock_of_a_killed_build_is_cleared(folder, other):
    other.kill()
    other.communicate()  # until its last process has closed the pipe
    time.sleep(0.1)
    assert record_of(folder).exists()
    assert acquired(folder)
    assert not acquired(folder)
    assert not record_of(folder).exists()


def test_a_build_that_ends_in_order_leaves_no_record(folder):
    code = BUILD.replace("time.sleep(600)", "")
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code, folder], env=environment, check=True)
        assert not record_of(folder).exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "node7", "boot": "b", "machine": "m"},
        {"boot": "b", "machine": "m"},  # another host of the same name
        {"boot": "b", "machine": ""},
        {"host": "node7"},  # a container with a name of its own
    ],
)
def test_a_build_of_another_host_ends_by_an_explicit_word_only(folder, changes):
    leave_record(folder, user="alice", pid=77, **changes)
    with pytest.raises(BusyError, match=r"process 77 of alice on .*resume --force"):
        acquired(folder)
    assert acquired(folder, force=True)


def test_a_build_that_ran_before_a_reboot_has_ended(folder, monkeypatch):
    read = build_lock._read  # a machine may have no identity
    monkeypatch.setattr(build_lock, "_read", lambda path: read(path) or path)
    leave_record(folder, boot="before")
    assert acquired(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "a"}'])
def test_a_record_that_was_cut_stops_nobody(folder, content):
    record_of(folder).parent.mkdir(parents=True)
    record_of(folder).write_text(content)
    assert acquired(folder)


@pytest.fixture
def no_locks(monkeypatch):
    """A file system without locks, where the record is all there is."""

    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)


def test_without_locks_a_running_process_is_told_from_a_later_one_with_its_id(folder, no_locks):
    leave_record(folder)
    with pytest.raises(BusyError, match=f"is working in this folder .process {os.getpid()} "):
        acquired(folder, force=True)
    leave_record(folder, started="1")
    assert acquired(folder)
    leave_record(folder, pid=2**22 + 1)  # Linux has no such process
    assert acquired(folder)


@pytest.mark.parametrize("changes", [{"namespace": "pid:[1]"}, {"host": "node7"}])
def test_without_locks_other_containers_and_hosts_need_an_explicit_word(folder, no_locks, changes):
    leave_record(folder, **changes)
    with pytest.raises(BusyError, match="has not ended as far as this host can tell"):
        acquired(folder)
    assert acquired(folder, force=True)


def test_a_process_has_its_own_lock_once_and_a_fork_does_not_give_it_back(folder):
    lock = BuildLock(folder)
    assert not lock.acquire()
    assert not BuildLock(folder).acquire()
    child = os.fork()
    if child == 0:
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)
    assert record_of(folder).exists()
    lock.release()
    assert not record_of(folder).exists()


def test_a_full_disk_leaves_no_record_that_would_stop_the_next_build(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(build_lock.json, "dump", full)
    with pytest.raises(OSError, match="No space left"):
        acquired(folder)
    monkeypatch.undo()
    assert not record_of(folder).exists()
    assert not acquired(folder)
