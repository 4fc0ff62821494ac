"""Protects that no failure of a fork server, or of a step that uses it, stops a build."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import types
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import psutil
import pytest
from pte_foundry.job.fork_server import EXECUTING, KINDS, VARIABLE, client, socket_address
from pte_foundry.job.fork_server import start as starting
from pte_foundry.job.fork_server.protocol import TAKEN, send_request
from pte_foundry.job.fork_server.server import Server
from pte_foundry.job.fork_server.start import start

from tests.unit.job.build import Build, connected, eventually, pids

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forking is safe on Linux only")


def test_steps_run_by_themselves_where_there_is_no_fork_server(build, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "stale").mkdir()
    with (
        socket.socket(socket.AF_UNIX) as listener,
        socket_address(tmp_path / "stale", EXECUTING) as a,
    ):
        listener.bind(a)  # nobody listens
    for value in ("off", tmp_path, tmp_path / "none", tmp_path / "file", tmp_path / "stale"):
        code, out, err = build.run("pass", **{VARIABLE: str(value)})
        assert (code, err) == (0, "")
        assert pids(out)[0] == "False"


def test_steps_that_stop_in_the_middle_of_a_request_stop_no_other(build):
    """As by Ctrl-Z, or by a cgroup that is frozen. Children are reaped meanwhile."""
    before = build.server(EXECUTING).num_fds()
    with connected(build.sockets) as nothing, connected(build.sockets) as half:
        socket.send_fds(half, [(1000).to_bytes(4, "little")], [0, 1, 2])
        half.sendall(b'{"module": "a_st')
        for _ in range(2):
            code, out, _ = build.run("pass")
            assert (code, pids(out)[0]) == (0, "True")
        assert build.run("os.kill(os.getpid(), 9)")[0] == 128 + 9
        nothing.close()
    eventually(lambda: build.server(EXECUTING).num_fds() == before)
    assert "declined a request: the step closed its end after 20 bytes" in build.log()


def message(**changes) -> bytes:
    step = {"module": "a_step", "argv": [], "folder": "/", "environment": {"A": "b"}, "asked": 0.0}
    return json.dumps(step | changes).encode()


@pytest.mark.parametrize(
    ("length", "content", "files"),
    [
        (4, b"\xff\x00{}", [0, 1, 2]),
        (2, b"[]", [0, 1, 2]),
        (2**24, b"{}", [0, 1, 2]),
        (2, b"{}{}{}", [0, 1, 2]),
        (100_000, b"[" * 100_000, [0, 1, 2]),
        (None, message(), [0]),
        (None, message(), []),
        (None, message(module=None), [0, 1, 2]),
        (None, message(argv=[["a"]]), [0, 1, 2]),
        (None, message(environment=["A"]), [0, 1, 2]),
        (None, message(environment={"A": 1}), [0, 1, 2]),
    ],
)
def test_a_malformed_request_is_declined_and_leaves_nothing_open(build, length, content, files):
    build.run("pass")  # so that the server has no other work
    before = build.server(EXECUTING).num_fds()
    with connected(build.sockets) as connection:
        header = (len(content) if length is None else length).to_bytes(4, "little")
        if files:
            socket.send_fds(connection, [header], files)
        else:
            connection.sendall(header)
        try:
            connection.sendall(content)
            assert connection.recv(1) == b""
        except (BrokenPipeError, ConnectionResetError):
            pass  # closed with unread bytes
    eventually(lambda: build.server(EXECUTING).num_fds() == before)
    assert "declined a" in build.log().splitlines()[-1]
    assert pids(build.run("pass")[1])[0] == "True"


@pytest.fixture
def idle(tmp_path):
    """A build whose servers have loaded nothing yet."""
    build = Build(tmp_path, TMPDIR=str(tmp_path))  # a server that is killed leaves its socket there
    yield build
    build.end()
    eventually(lambda: not build.left())


def test_a_server_that_dies_leaves_the_work_to_the_step(idle):
    server = idle.server(EXECUTING)
    server.suspend()
    running = idle.start("pass")
    time.sleep(0.3)
    assert running.poll() is None  # it waits for the server
    server.kill()
    out, err = running.communicate(timeout=60)
    assert (running.returncode, err, pids(out)[0]) == (0, "", "False")


def test_a_folder_of_sockets_that_is_deleted_leaves_the_work_to_the_steps(idle):
    shutil.rmtree(idle.sockets)
    code, out, err = idle.run("pass")
    assert (code, err, pids(out)[0]) == (0, "", "False")


def test_a_server_that_does_not_answer_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "PATIENCE", 0.1)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", types.SimpleNamespace(name="a_step"))
    with socket.socket(socket.AF_UNIX) as listener, socket_address(tmp_path, EXECUTING) as address:
        listener.bind(address)
        listener.listen()
        began = time.monotonic()
        assert client.run_in_fork(EXECUTING) is None
        assert 0.1 <= time.monotonic() - began < 10


@contextmanager
def without_name_of_test():
    """Pytest changes this variable within a test, and a server takes no step whose differ."""
    with mock.patch.dict(os.environ):
        os.environ.pop("PYTEST_CURRENT_TEST", None)
        yield


@pytest.fixture
def server(tmp_path):
    """A server in a thread of this process, so that calls of the system can be made to fail."""
    reading, writing = os.pipe()
    with socket.socket(socket.AF_UNIX) as listener:
        with socket_address(tmp_path, EXECUTING) as address:
            listener.bind(address)
        listener.listen()
        with without_name_of_test():
            made = Server(listener, reading, Server.fork)
            made.fixed = {}  # it is in the environment of this process
        thread = threading.Thread(target=made.serve)
        thread.start()
        yield tmp_path
        os.close(writing)
        thread.join(60)
    assert not thread.is_alive()
    os.close(reading)


def raising(error: OSError):
    def fail(*_, **__):
        raise error

    return fail


def declined(folder: Path) -> None:
    """Sends a request like a step, and waits for the server to close the connection."""
    with connected(folder) as connection, without_name_of_test():
        send_request(connection, "a_step", [])
        assert connection.makefile("rb").read() in (b"", TAKEN)


@pytest.mark.parametrize("error", [BlockingIOError(11, "no more"), OSError(12, "no memory")])
def test_a_fork_that_fails_leaves_the_work_to_the_step(server, monkeypatch, capfd, error):
    monkeypatch.setattr(os, "fork", raising(error))
    before = psutil.Process().num_fds()
    for _ in range(3):
        declined(server)
    eventually(lambda: psutil.Process().num_fds() == before)
    assert capfd.readouterr().err.count(f"declined a_step: {error}") == 3


def test_a_child_that_cannot_be_watched_is_ended_before_the_step_does_the_work(server, monkeypatch):
    children = []

    def fork():
        children.append(subprocess.Popen(["sleep", "300"]))
        return children[0].pid

    monkeypatch.setattr(os, "fork", fork)
    monkeypatch.setattr(os, "pidfd_open", raising(OSError(24, "too many open files")))
    declined(server)
    assert not psutil.pid_exists(children[0].pid)
    children[0].wait()


def test_a_connection_that_cannot_be_accepted_is_accepted_later(server, monkeypatch, capfd):
    real, failures = socket.socket.accept, [OSError(24, "too many open files")] * 2

    def accept(listener):
        if failures:
            raise failures.pop()
        return real(listener)

    monkeypatch.setattr(socket.socket, "accept", accept)
    monkeypatch.setattr(os, "fork", raising(OSError(11, "no more")))
    declined(server)
    assert capfd.readouterr().err.count("accepts no step: [Errno 24] too many open files") == 2


@pytest.mark.parametrize("failing", ["no_folder", "first", "second"])
def test_servers_that_cannot_start_are_a_line_in_the_log(tmp_path, monkeypatch, failing):
    """And those that have started already end again."""
    started, real = [], subprocess.Popen
    error = OSError(11, "no more processes")

    def popen(*arguments, **options):
        if failing == "first" or started:
            raise error
        started.append(real(*arguments, **options))
        return started[0]

    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(starting.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(starting.subprocess, "Popen", popen)
    if failing == "no_folder":
        monkeypatch.setattr(starting.tempfile, "mkdtemp", raising(error))
    start([], tmp_path / "logs")
    assert VARIABLE not in os.environ
    for process in started:
        assert process.wait(60) == 0
    for kind in KINDS:
        (line,) = (tmp_path / "logs" / f"{kind}.log").read_text().splitlines()
        assert line.startswith("no fork server, so every step loads its libraries itself")
        assert line.endswith("no more processes")
    assert not list(tmp_path.glob("foundry-*"))
