"""Protects the installation: a clone's environment is complete, its own, and never pulled away.

The real installer runs, with locks of tiny wheels that the test makes.
"""

import base64
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEFAULT, CPU = "2.13.0", "2.13.0+cpu"


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def make_wheel(folder: Path, name: str, version: str, code: str, needs: str = "") -> Path:
    """A wheel of one module, with a command of the same name that calls its ``main``."""
    information = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": code,
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + f"Requires-Dist: {needs}\n" * bool(needs),
        f"{information}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{information}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    record = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        record.append(f"{path},sha256={digest.decode()},{len(text)}")
    files[f"{information}/RECORD"] = "\n".join([*record, f"{information}/RECORD,,"])
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel


def make_lock(path: Path, wheels: list[Path]) -> None:
    pins = [
        "{}=={} \\\n    --hash=sha256:{}\n".format(
            *wheel.name.replace("+cpu", "").split("-")[:2],
            sha256(wheel),
        )
        for wheel in wheels
    ]
    path.write_text("# A lock of tiny wheels.\n" + "".join(pins))


class Packages:
    """An index with the default build of torch and a package, and one with torch's CPU build."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.default = self.add("index", "torch", DEFAULT)
        self.cpu = self.add("cpu", "torch", CPU)
        self.demo = [
            self.add("index", "demo", version, f"VERSION = {version!r}\n") for version in "12"
        ]
        self.nvidia = self.add("index", "nvidia", "1")
        self.spice = self.add("index", "spice", "1", needs="demo")

    def add(self, index: str, name: str, version: str, code: str = "", needs: str = "") -> Path:
        code += "import sys\ndef main(): print(sys.executable)\n"
        wheel = make_wheel(self.folder / index / name, name, version, code, needs)
        links = (
            f'<a href="{w.name}#sha256={sha256(w)}">{w.name}</a>'
            for w in wheel.parent.glob("*.whl")
        )
        (wheel.parent / "index.html").write_text("\n".join(links))
        return wheel

    def index(self, name: str) -> str:
        return (self.folder / name).as_uri()


class Clone:
    """A checkout with the real installer, a small lock and a library of one package."""

    def __init__(self, folder: Path, packages: Packages) -> None:
        self.folder = folder
        self.packages = packages
        self.venv = folder / ".venv"

    def write(self) -> "Clone":
        (self.folder / "envs").mkdir(parents=True)
        shutil.copy(ROOT / "Makefile", self.folder)
        for file in ("python.sh", "create.py", "extra.py", "relocatable.py", "startup.py"):
            shutil.copy(ROOT / "envs" / file, self.folder / "envs")
        self.lock(1)
        package = self.folder / "scripts" / "pte_foundry"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "cli.py").write_text("def main(): print(__file__)\n")
        return self

    def lock(self, demo: int) -> None:
        """Writes the locks of the three environments, with one of two versions of a package."""
        wheel = self.packages.demo[demo - 1]
        for name, wheels in (
            ("", [self.packages.cpu, wheel]),
            ("-macos", [self.packages.cpu, wheel]),
            ("-cuda", [self.packages.default, wheel, self.packages.nvidia]),
        ):
            make_lock(self.folder / "envs" / f"requirements{name}.lock", wheels)

    def copy(self, folder: Path) -> "Clone":
        shutil.copytree(self.folder, folder, symlinks=True)
        return Clone(folder, self.packages)

    def start(self, **variables: str) -> subprocess.Popen:
        settings = {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": self.packages.index("index"),
            "PIP_FIND_LINKS": str(self.packages.cpu.parent),
            "PYTHON": sys.executable,
        }
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        return subprocess.Popen(
            ["make", "environment"],
            cwd=self.folder,
            env=environment | settings | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def make(self, fails: bool = False, **variables: str) -> str:
        """What `make environment` prints."""
        running = self.start(**variables)
        output, _ = running.communicate(timeout=120)
        assert bool(running.returncode) == fails, output
        return output

    def run(self, *command: str) -> str:
        return subprocess.run(
            command, cwd=self.folder, check=True, capture_output=True, text=True
        ).stdout.strip()

    def version(self) -> str:
        """The version of the package in the environment, imported through the link."""
        return self.run(".venv/bin/python", "-c", "import demo; print(demo.VERSION)")

    def environments(self) -> list[str]:
        """All in the folder of environments but the installer's lock."""
        return sorted(
            path.name for path in (self.folder / ".venvs").iterdir() if path.name != ".lock"
        )


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> Packages:
    return Packages(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module")
def first(packages, tmp_path_factory) -> tuple[Clone, str]:
    """A clone with an environment, to copy, and what the installer printed."""
    clone = Clone(tmp_path_factory.mktemp("first") / "clone", packages).write()
    return clone, clone.make()


@pytest.fixture
def made(first, tmp_path) -> Clone:
    """A clone with an environment, to do anything with. Its path contains a space."""
    return first[0].copy(tmp_path / "a copy")


@pytest.fixture
def fresh(packages, tmp_path) -> Clone:
    """A clone without an environment, in a path that is too long for a shebang."""
    return Clone(tmp_path / "with a space" / ("long" * 40), packages).write()


def assert_works(clone: Clone) -> None:
    """The environment runs from its own folder and imports the clone's library."""
    (name,) = clone.environments()
    python = str(clone.folder / ".venvs" / name / "bin" / "python")
    assert clone.run(".venv/bin/demo") == python
    library = str(clone.folder / "scripts" / "pte_foundry")
    assert clone.run(".venv/bin/pte-foundry") == f"{library}/cli.py"
    for executable in (".venv/bin/python", python):
        code = "import sys, demo, pte_foundry as p; print(sys.executable, p.__path__[0], sep='\\n')"
        assert clone.run(executable, "-c", code) == f"{python}\n{library}"
    activated = clone.run("bash", "-c", ". .venv/bin/activate && echo $VIRTUAL_ENV && demo")
    assert activated == f"{clone.folder / '.venvs' / name}\n{python}"


def test_the_environment_is_reported_and_made_once(first):
    clone, output = first
    assert re.fullmatch(
        r"Creating the environment with torch's .*\n"
        r"Created the environment in \d+ s: \d+\.\d GB with torch's .*\n",
        output,
    )
    assert os.readlink(clone.venv) == f".venvs/{clone.environments()[0]}"
    assert_works(clone)
    assert clone.make() == ""
    assert clone.make(PYTHON="") == "", "the environment's own Python is found"


def test_recipes_run_from_the_environment_whatever_becomes_of_the_link(first):
    clone = first[0]
    shown = clone.run(
        "make", "--no-print-directory", "--eval", "show: environment; @command -v python", "show"
    )
    assert shown == str(clone.folder / ".venvs" / clone.environments()[0] / "bin" / "python")


def test_no_script_or_setting_contains_the_path_of_the_environment(first):
    clone = first[0]
    files = [*clone.venv.glob("bin/*"), clone.venv / "pyvenv.cfg", *clone.venv.rglob("*.pth")]
    own = os.fsencode(clone.folder)
    assert not [file for file in files if not file.is_symlink() and own in file.read_bytes()]


class TestExtra:
    """Packages beside those of the lock."""

    def assert_has_spice(self, clone: Clone) -> None:
        folder = clone.folder / os.readlink(clone.venv)
        assert clone.run(".venv/bin/spice") == str(folder / "bin" / "python")
        assert clone.run(".venv/bin/demo") == str(folder / "bin" / "python")
        assert clone.version() == "1"
        assert "spice==1 " in (folder / "extra.lock").read_text()

    def test_they_are_resolved_once_and_pinned_and_the_rest_stays(self, made, tmp_path):
        before = os.readlink(made.venv)
        extra = made.folder / "envs" / "extra.in"
        extra.write_text("spice  # for a model\n")
        assert "Resolving" in made.make()
        self.assert_has_spice(made)
        lock = (made.folder / "envs" / "extra.lock").read_text()
        assert f"spice==1 \\\n    --hash=sha256:{sha256(made.packages.spice)}\n" in lock
        assert "demo" not in lock, "the lock has it"
        assert made.make() == ""
        extra.write_text("# a comment\nspice\n")
        assert made.make() == "", "other words, the same requirements"
        # Files are shared with the environment of the lock, but for the one that is locked.
        shared = "lib/python3.11/site-packages/demo.py"
        assert (made.venv / shared).samefile(made.folder / before / shared)
        assert not (made.venv / "pyvenv.cfg").samefile(made.folder / before / "pyvenv.cfg")
        committed = made.copy(tmp_path / "of a colleague")
        shutil.rmtree(committed.folder / ".venvs")
        committed.venv.unlink()
        assert "Resolving" not in committed.make(), "with the committed lock"
        self.assert_has_spice(committed)
        extra.unlink()
        assert made.make(PIP_INDEX_URL="file:///nowhere") == ""
        assert os.readlink(made.venv) == before

    def test_a_file_elsewhere_counts_until_it_is_forgotten(self, made, tmp_path):
        before = os.readlink(made.venv)
        ours = tmp_path / "team's repository" / "requirements.in"
        ours.parent.mkdir()
        ours.write_text("spice\n")
        made.make(EXTRA=str(ours))
        self.assert_has_spice(made)
        assert ours.with_suffix(".lock").is_file()
        assert made.make() == ""
        self.assert_has_spice(made)
        ours.rename(ours.with_suffix(".old"))
        assert "there is no such file" in made.make(fails=True)
        assert made.make(EXTRA="") == ""
        assert os.readlink(made.venv) == before

    def test_what_the_lock_forbids_is_refused_and_changes_nothing(self, made):
        before = os.readlink(made.venv)
        (made.folder / "envs" / "extra.in").write_text("demo==2\n")
        assert "cannot be resolved against the lock" in made.make(fails=True)
        assert not (made.folder / "envs" / "extra.lock").exists()
        assert os.readlink(made.venv) == before
        assert made.version() == "1"

    def test_another_lock_resolves_them_anew(self, made):
        (made.folder / "envs" / "extra.in").write_text("spice\n")
        made.make()
        made.lock(2)
        assert "Resolving" in made.make()
        assert made.version() == "2"


def test_a_moved_clone_keeps_its_environment(made, tmp_path):
    moved = Clone(made.folder.rename(tmp_path / "moved to here"), made.packages)
    assert_works(moved)
    assert moved.make() == ""


def test_a_copied_clone_uses_its_own_environment(made, tmp_path):
    copied = made.copy(tmp_path / "another")
    shutil.rmtree(made.folder)
    assert_works(copied)
    assert copied.make() == ""


def test_two_installers_at_once_make_one_environment(fresh):
    both = [fresh.start(), fresh.start()]
    outputs = sorted((running.communicate(timeout=120)[0] for running in both), key=len)
    assert [running.returncode for running in both] == [0, 0], outputs
    assert outputs[0] == "Waiting for another make, which is creating the environment\n"
    assert "Created the environment" in outputs[1]
    assert_works(fresh)


def test_an_installation_killed_half_way_is_started_again(fresh):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # an index that never answers
        running = fresh.start(PIP_INDEX_URL=f"http://127.0.0.1:{silent.getsockname()[1]}/")
        connection, _ = silent.accept()
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate(timeout=60)
        connection.close()
    (left,) = fresh.environments()
    assert left.startswith(".tmp-")
    assert not fresh.venv.is_symlink()
    fresh.make()
    assert_works(fresh)


def test_a_failed_installation_shows_why_and_leaves_what_there_was(made):
    for lock in (made.folder / "envs").glob("*.lock"):
        lock.write_text(lock.read_text().replace("demo==1", "demo==3"))
    noise = (made.folder.parent / "nowhere").as_uri()
    output = made.make(fails=True, PIP_EXTRA_INDEX_URL=noise)
    assert "No matching distribution found for demo==3" in output
    assert "error: pip could not install envs/requirements" in output
    assert "is ignored" not in output
    assert made.version() == "1"
    assert_works(made)


def test_a_process_keeps_its_environment_when_the_lock_changes(made):
    later = "import sys; print(0, flush=True); sys.stdin.read(); import demo; print(demo.VERSION)"
    with subprocess.Popen(
        [made.venv / "bin" / "python", "-c", later],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "0\n"  # it runs
        made.lock(2)
        made.make()
        assert made.version() == "2"
        assert len(made.environments()) == 2
        assert made.make() == ""
        assert process.communicate()[0] == "1\n"
    assert made.make() == ""
    assert len(made.environments()) == 1, "the old environment is removed after its last process"
    assert_works(made)


def test_an_environment_without_its_python_is_made_again(made):
    python = made.venv / "bin" / "python3.11"
    python.unlink()
    python.symlink_to("/nowhere/python3.11")
    assert "Created" in made.make()
    assert_works(made)


def test_a_folder_of_an_older_version_is_replaced(fresh):
    (fresh.venv / "bin").mkdir(parents=True)
    (fresh.venv / ".ready").touch()
    fresh.make()
    assert_works(fresh)


def test_a_folder_that_somebody_else_made_is_left_alone(fresh):
    (fresh.venv / "precious").mkdir(parents=True)
    assert ".venv is not an environment of this project; move it away" in fresh.make(fails=True)
    assert (fresh.venv / "precious").exists()


@pytest.mark.parametrize("name", ["a:b", "a\nb"])
def test_a_folder_that_cannot_be_in_a_path_is_refused_before_the_installation(
    fresh, tmp_path, name
):
    moved = Clone(tmp_path / name, fresh.packages)
    fresh.folder.rename(moved.folder)
    assert f"the path of this folder, {str(moved.folder)!r}, has a ':'" in moved.make(fails=True)
    assert not (moved.folder / ".venvs").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is one build of torch")
class TestTorch:
    """Which build of torch is taken."""

    def installed(self, clone: Clone) -> str:
        code = "import importlib.metadata as m; print(m.version('torch'))"
        return clone.run(".venv/bin/python", "-c", code)

    def test_the_cpu_build_is_taken_from_a_folder(self, first):
        assert "with torch's CPU build" in first[1]
        assert self.installed(first[0]) == CPU

    def test_the_cpu_build_is_taken_from_an_index(self, fresh):
        output = fresh.make(PIP_FIND_LINKS="", TORCH_INDEX=fresh.packages.index("cpu"))
        assert "with torch's CPU build" in output
        assert self.installed(fresh) == CPU
        assert_works(fresh)
        assert fresh.make(PIP_FIND_LINKS="") == "", "what is there is kept"

    def test_without_a_cpu_build_the_default_one_is_taken(self, fresh):
        wrong = fresh.packages.add("wrong", "torch", CPU, "a_file_that_the_lock_does_not_pin = 1\n")
        output = fresh.make(PIP_FIND_LINKS=f"/nowhere {wrong.parent}")
        assert "with the default index's build of torch, with CUDA" in output
        assert self.installed(fresh) == DEFAULT
        assert fresh.run(".venv/bin/python", "-c", "import nvidia") == ""
        assert fresh.make(PIP_FIND_LINKS="") == ""
        assert "with torch's CPU build" in fresh.make(), "it is taken when it can be had"
        assert self.installed(fresh) == CPU

    def test_an_index_without_the_cpu_build_is_reported(self, fresh):
        output = fresh.make(PIP_FIND_LINKS="", TORCH_INDEX=fresh.packages.index("index"))
        assert "TORCH_INDEX does not have the file of torch" in output
        assert self.installed(fresh) == DEFAULT


class TestPython:
    """Which Python is taken, and what is said if there is none."""

    @pytest.fixture
    def path(self, tmp_path) -> Path:
        """A folder for the search path, with what a shell script needs and no Python."""
        for command in ("bash", "dirname", "ls"):
            (tmp_path / "bin").mkdir(exist_ok=True)
            (tmp_path / "bin" / command).symlink_to(shutil.which(command))
        return tmp_path / "bin"

    def find(self, clone: Clone, path: Path, **variables: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["bash", "envs/python.sh"],
            cwd=clone.folder,
            env={"PATH": str(path), "HOME": str(path)} | variables,
            capture_output=True,
            text=True,
        )

    def script(self, file: Path, text: str) -> str:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
        return str(file)

    def test_without_a_python_one_line_tells_the_fix(self, fresh, path):
        self.script(path / "python3.11", "exit 127")  # pyenv's, with no such version installed
        self.script(path / "python3", "exit 1")  # another version
        found = self.find(fresh, path)
        assert found.returncode == 1
        assert found.stdout == ""
        assert found.stderr.startswith("error: no Python 3.11 found")
        assert found.stderr.endswith("make PYTHON=/path/to/python3.11\n")
        assert found.stderr.count("\n") == 1

    def test_make_stops_with_that_line(self, fresh):
        output = fresh.make(fails=True, PYTHON="/usr/bin/false")
        assert "error: PYTHON=/usr/bin/false is not a CPython 3.11; name one: make PYTHON" in output
        assert output.count("error:") == 1

    def test_a_python_without_ensurepip_is_named(self, fresh, path):
        python = self.script(
            path / "python3",
            f'case "$*" in *ensurepip*) exit 1;; esac; exec "{sys.executable}" "$@"',
        )
        found = self.find(fresh, path)
        assert found.stderr.startswith(f"error: {python} has no module ensurepip; install it")
        assert found.stderr.count("\n") == 1

    def test_a_python_of_uv_is_found(self, fresh, path):
        self.script(path / "uv", f'[ "$1 $2" = "python find" ] && echo "{sys.executable}"')
        assert self.find(fresh, path).stdout == f"{sys.executable}\n"

    def test_a_python_of_pyenv_is_found(self, fresh, path):
        text = f'exec "{sys.executable}" "$@"'
        python = self.script(path / ".pyenv/versions/3.11.9/bin/python", text)
        assert self.find(fresh, path).stdout == f"{python}\n"
        python = self.script(path / "elsewhere/versions/3.11.10/bin/python", text)
        assert self.find(fresh, path, PYENV_ROOT=f"{path}/elsewhere").stdout == f"{python}\n"


class TestLocks:
    """The locks that are committed."""

    def pins(self, name: str) -> dict[str, str]:
        text = (ROOT / "envs" / name).read_text("utf-8")
        return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))

    def test_both_linux_locks_have_the_same_versions(self):
        cpu, cuda = self.pins("requirements.lock"), self.pins("requirements-cuda.lock")
        assert cpu.items() <= cuda.items()
        more = cuda.keys() - cpu.keys()
        assert {"triton", "nvidia-cublas"} <= more
        assert all(re.match(r"nvidia-|cuda-|triton$", name) for name in more), more

    def test_macos_has_the_same_versions(self):
        linux, macos = self.pins("requirements.lock"), self.pins("requirements-macos.lock")
        differing = {n for n in linux.keys() & macos.keys() if linux[n] != macos[n]}
        assert not differing

    @pytest.mark.parametrize("name", ["", "-cuda", "-macos"])
    def test_every_lock_pins_what_is_required(self, name):
        pins = self.pins(f"requirements{name}.lock")
        for file in ("requirements.in", "models.in"):
            text = (ROOT / "envs" / file).read_text("utf-8")
            required = re.compile(r"^([\w.-]+)(?:\[\w+\])?(?:==(\S+))?(?:  #.*)?$", re.MULTILINE)
            for package, version in required.findall(text):
                normal = package.lower().replace(".", "-").replace("_", "-")
                assert pins[normal] == (version or pins[normal]), package

    def test_one_file_of_torch_is_the_cpu_build(self):
        text = (ROOT / "envs/requirements.lock").read_text("utf-8")
        torch = re.search(r"^torch==(?:.*\\\n)*.*", text, re.MULTILINE)[0]
        digest = re.findall(r"sha256:\w{64}", torch)
        assert len(digest) == 1
        assert digest[0] not in (ROOT / "envs/requirements-cuda.lock").read_text("utf-8")
