"""Protects that a step in a warm process is the same step, and that nothing of it outlives it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from pte_foundry.bench.jobs import HOLDER
from pte_foundry.job.fork_server import VARIABLE
from pte_foundry.job.fork_server.start import imported

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forking is safe on Linux only")

STEP = """
import os, sys, time
from pathlib import Path
from pte_foundry.job import command

def main(argv=None):
    parser = command.parser("")
    parser.add_argument("--body")
    parser.add_argument("--portably", action="store_true")
    arguments = parser.parse_args(argv)
    loaded = "torch" in sys.modules
    def step():
        print("loaded", loaded, "parent", os.getppid())
        exec(arguments.body, globals())
    return command.run(arguments, step, portably=arguments.portably, warm=True)

if __name__ == "__main__":
    raise SystemExit(main())
"""


class Build:
    """What Snakemake is to the warm processes: starts them, starts steps, and ends some time."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        (folder / "a_step.py").write_text(STEP)
        path = f"{ROOT}:{folder}"
        self.environment = os.environ | {"PYTHONPATH": path} | environment
        self.environment.pop(VARIABLE, None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER],
            cwd=folder,
            env=self.environment | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "terminal").open("wb"),
            text=True,
        )
        self.sockets = Path(self.process.stdout.readline().strip())
        self.servers = psutil.Process(self.process.pid).children()

    def start(self, body: str, *arguments: str, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "a_step", "--body", body, *arguments],
            cwd=self.folder,
            env=self.environment | {VARIABLE: str(self.sockets)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Of tests that run in the background of a shell, interrupts are ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, body: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
        running = self.start(body, *arguments, **environment)
        out, err = running.communicate(timeout=120)
        return running.returncode, out, err

    def warm(self) -> list[psutil.Process]:
        """The warm processes of this build that are left."""
        return [p for p in self.servers if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    build = Build(tmp_path_factory.mktemp("build"))
    yield build
    build.end()


def eventually(true, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def pids(text: str) -> tuple[str, str]:
    return tuple(text.split()[1:4:2])


def test_a_step_has_the_libraries_and_nothing_of_the_step_before(build):
    mark = "import builtins; print(hasattr(builtins, 'mark')); builtins.mark = 1"
    for _ in range(2):
        code, out, err = build.run(mark)
        assert (code, err) == (0, "")
        loaded, parent = pids(out)
        assert loaded == "True"
        assert psutil.Process(int(parent)).cmdline()[2] == "pte_foundry.job.fork_server.server"
        assert out.endswith("False\n")


def test_a_step_has_its_own_folder_arguments_files_and_environment(build, tmp_path):
    log = tmp_path / "step.log"
    body = "print(os.getcwd(), sys.argv[1], os.environ.get('FOUNDRY_WARM'))"
    code, out, err = build.run(body, "--log", str(log))
    assert (code, out, err) == (0, "", "")
    assert f"{build.folder} --body None" in log.read_text()


def test_what_libraries_say_while_they_are_loaded_goes_to_a_log(build):
    """coremltools misses Apple's frameworks, and torchao what it has for other processors."""
    build.run("", "--portably")
    assert "libcoremlpython" in (build.folder / "logs/portable.log").read_text()
    assert (build.folder / "terminal").read_text() == ""


def test_a_portable_step_runs_in_the_fixed_environment(build):
    code, out, _ = build.run(
        "import math; print(os.environ['GLIBC_TUNABLES'], math.exp(0.1))", "--portably"
    )
    assert code == 0
    assert pids(out)[0] == "True"
    assert "-FMA" in out


def test_a_failure_is_told_as_ever(build):
    body = "from pte_foundry.errors import FoundryError; raise FoundryError('put a into b')"
    assert build.run(body)[::2] == (1, "error: put a into b\n")
    assert build.run("sys.exit(7)")[0] == 7
    assert build.run("sys.exit('a text')")[0] == 1


def test_a_child_that_is_killed_is_a_step_that_is_killed(build):
    assert build.run("os.kill(os.getpid(), 9)")[0] == 128 + signal.SIGKILL


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
    code, out, _ = build.run("print(os.environ['OMP_NUM_THREADS'])", OMP_NUM_THREADS="3")
    assert code == 0
    assert pids(out)[0] == "False"
    assert out.endswith("3\n")


def test_steps_run_by_themselves_where_there_is_no_warm_process(build, tmp_path):
    for value in ("off", str(tmp_path)):
        code, out, _ = build.run("pass", **{VARIABLE: value})
        assert code == 0
        assert pids(out)[0] == "False"


@pytest.mark.parametrize("end", [Build.end, lambda build: build.process.kill()])
def test_warm_processes_end_with_the_build_and_after_its_steps(tmp_path, end):
    build = Build(tmp_path)
    body = "Path('began').touch()\nwhile not Path('go').exists(): time.sleep(0.01)"
    running = build.start(body)
    eventually((tmp_path / "began").exists)
    end(build)
    assert [p for p in build.warm() if p.children()]
    assert running.poll() is None
    (tmp_path / "go").touch()
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert pids(out)[0] == "True"
    eventually(lambda: not build.warm())
    eventually(lambda: not build.sockets.exists())


def test_nothing_is_loaded_before_a_step_asks(tmp_path):
    build = Build(tmp_path)
    assert len(build.warm()) == 2
    time.sleep(1)
    assert max(process.memory_info().rss for process in build.warm()) < 40 * 2**20
    build.end()
    eventually(lambda: not build.warm())


def test_imports_of_a_model_are_found(tmp_path):
    file = tmp_path / "model.py"
    file.write_text("import re, torch.nn\nfrom a.b import C, D\ndef f():\n    import late\n")
    broken = tmp_path / "broken.py"
    broken.write_text("def")
    assert imported([file, broken, tmp_path / "none.py"]) == [
        ("a.b", ["C", "D"]),
        ("re", []),
        ("torch.nn", []),
    ]
