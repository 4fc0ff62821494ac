"""Protects that a forked step is the same step, and that nothing of it outlives it."""

import signal
import sys
import time

import psutil
import pytest
from pte_foundry.bench.jobs import HOLDER
from pte_foundry.job.fork_server import KINDS
from pte_foundry.job.fork_server.start import merged

from tests.unit.job.build import Build, eventually, pids

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forking is safe on Linux only")


def test_a_step_has_the_libraries_and_nothing_of_the_step_before(build):
    mark = "import builtins; print(hasattr(builtins, 'mark')); builtins.mark = 1"
    for _ in range(2):
        code, out, err = build.run(mark)
        assert (code, err) == (0, "")
        loaded, parent = pids(out)
        assert loaded == "True"
        assert psutil.Process(int(parent)).cmdline()[3] == "pte_foundry.job.fork_server.server"
        assert out.endswith("False\n")


def test_a_step_has_its_own_folder_arguments_files_and_environment(build, tmp_path):
    log = tmp_path / "step.log"
    body = "print(os.getcwd(), sys.argv[1], os.environ.get('FOUNDRY_FORK_SERVER'))"
    code, out, err = build.run(body, "--log", str(log))
    assert (code, out, err) == (0, "", "")
    assert f"{build.folder} --body None" in log.read_text()


def test_what_libraries_say_while_they_are_loaded_goes_to_a_log(build):
    """coremltools misses Apple's frameworks, and torchao what it has for other processors."""
    build.run("", "--kind=building")
    assert "libcoremlpython" in build.log("building")
    assert (build.folder / "terminal").read_text() == ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_runs_in_the_fixed_environment(build, kind):
    code, out, _ = build.run(
        "import math; print(os.environ['GLIBC_TUNABLES'], math.exp(0.1))", f"--kind={kind}"
    )
    assert code == 0
    assert pids(out)[0] == "True"
    assert "-FMA" in out


def test_a_failure_has_the_message_and_code_of_a_process_of_its_own(build):
    body = "from pte_foundry.errors import FoundryError; raise FoundryError('put a into b')"
    assert build.run(body)[::2] == (1, "error: put a into b\n")
    # A step that ends before its work is done has failed, whatever its code ends with.
    for argument, code in (("7", 7), ("", 1), ("'a text'", 1)):
        found, _, err = build.run(f"sys.exit({argument})")
        assert found == code
        assert f"ended by sys.exit({argument or None})" in err
    assert build.run("os._exit(3)")[0] == 3


def test_the_log_of_a_step_has_the_traceback_of_what_is_no_exception(build, tmp_path):
    """PanicException of libraries in Rust is a BaseException."""
    code, _, err = build.run("raise BaseException('panic')", "--log", str(tmp_path / "log"))
    log = tmp_path / "log"
    assert (code, err) == (1, f"error: BaseException: panic (traceback in {log})\n")
    assert "Traceback (most recent call last)" in log.read_text()


def test_a_step_that_cannot_be_imported_shows_its_traceback(build):
    (build.folder / "broken_step.py").write_text(
        "import sys\nif __name__ != '__main__': raise GeneratorExit('in the child')\n"
        "from pte_foundry.job import command\n"
        "sys.exit(command.run(command.parser('').parse_args([]), print, fork=command.EXECUTING))\n"
    )
    code, out, err = build.run("", module="broken_step")
    assert (code, out) == (1, "")
    assert "Traceback" in err
    assert err.endswith("GeneratorExit: in the child\n")


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (signal.SIGKILL, "killed by SIGKILL (out of memory?)"),
        (signal.SIGSEGV, "killed by SIGSEGV"),
        (signal.SIGRTMIN, f"killed by signal {int(signal.SIGRTMIN)}"),
    ],
)
def test_a_child_that_is_killed_is_a_step_that_is_killed(build, tmp_path, number, told):
    log = tmp_path / "step.log"
    body = f"print('before', flush=True); os.kill(os.getpid(), {int(number)})"
    if number >= signal.SIGRTMIN:
        told = told.replace(f"signal {int(number)}", number.name)  # Python names the first
    assert build.run(body, "--log", str(log))[::2] == (128 + number, f"error: {told}\n")
    assert log.read_text().splitlines()[-2:] == ["before", f"error: {told}"]
    assert f"a_step was killed by signal {int(number)}" in build.log()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_who_kills_the_step_kills_the_child(build, number):
    body = "Path('child').write_text(str(os.getpid())); time.sleep(300)"
    file = build.folder / "child"
    file.unlink(missing_ok=True)
    running = build.start(body)
    eventually(lambda: file.exists() and file.read_text())
    running.send_signal(number)
    running.communicate(timeout=60)
    assert running.returncode != 0
    eventually(lambda: not psutil.pid_exists(int(file.read_text())))


def test_steps_run_at_the_same_time(build):
    """Each waits for the other's file."""
    body = "Path('{0}').touch()\nwhile not Path('{1}').exists(): time.sleep(0.01)"
    running = [build.start(body.format(*names)) for names in (("one", "two"), ("two", "one"))]
    for step in running:
        _, err = step.communicate(timeout=60)
        assert (step.returncode, err) == (0, "")


def test_a_step_of_another_environment_is_run_by_itself(build):
    """Libraries have read the environment when they were loaded."""
    code, out, _ = build.run("print(os.environ['OMP_PROC_BIND'])", OMP_PROC_BIND="3")
    assert code == 0
    assert pids(out)[0] == "False"
    assert out.endswith("3\n")
    assert "declined a_step: its environment differs in OMP_PROC_BIND" in build.log()


@pytest.mark.parametrize("end", [Build.end, lambda build: build.process.kill()])
def test_fork_servers_end_with_the_build_and_after_its_steps(tmp_path, end):
    build = Build(tmp_path)
    body = "Path('began').touch()\nwhile not Path('go').exists(): time.sleep(0.01)"
    running = build.start(body)
    eventually((tmp_path / "began").exists)
    end(build)
    assert [p for p in build.left() if p.children()]
    assert running.poll() is None
    (tmp_path / "go").touch()
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert pids(out)[0] == "True"
    eventually(lambda: not build.left())
    eventually(lambda: not build.sockets.exists())


def test_nothing_is_loaded_before_a_step_asks(tmp_path):
    build = Build(tmp_path)
    assert len(build.left()) == 2
    time.sleep(1)
    assert max(process.memory_info().rss for process in build.left()) < 40 * 2**20
    build.end()
    eventually(lambda: not build.left())


def test_libraries_of_several_models_are_loaded_once():
    found = merged([{"torch": {"nn"}, "re": set()}, {"torch": {"Tensor", "nn"}}])
    assert found == [("re", []), ("torch", ["Tensor", "nn"])]


def test_kinds_that_share_a_server_are_served_by_it_until_the_build_ends(tmp_path):
    """As on a node of a cluster, where the memory of a job is limited."""
    shared = HOLDER.replace('Path("logs/fork_server")', 'Path("logs/fork_server"), shared=True')
    build = Build(tmp_path, shared)
    (server,) = build.left()
    for kind in KINDS:
        code, out, _ = build.run("pass", f"--kind={kind}")
        assert (code, pids(out)) == (0, ("True", str(server.pid)))
    build.end()
    eventually(lambda: not build.left())
    eventually(lambda: not build.sockets.exists())
