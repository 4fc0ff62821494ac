"""Creates the environment that the rules run in, unless it exists.

`make` runs this first. An environment is a folder in `.venvs`, named after the digest of its lock
and the Python version; `.venv` is a link to the current one. It is built in a temporary folder and
renamed when complete, so an interrupted installation leaves nothing that looks like an environment.
A changed lock makes a second environment; the first is removed once no process uses it.

No path of the clone is written into an environment, so a clone can be moved and copied.
Runs before anything is installed, so it uses the standard library only.
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass, replace
from pathlib import Path

from extra import INSTALLED, ExtraError, chosen, extend, is_resolved, lock_of, resolve
from relocatable import add_clone, make_relocatable, make_scripts_relocatable

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LINK = ROOT / ".venv"
FOLDER = ROOT / ".venvs"
TEMPORARY = ".tmp-"

# Part of every environment's name. Increase it when what this folder's scripts make changes.
LAYOUT = 2


class InstallError(Exception):
    """What is wrong and how to fix it, in one line."""


class TorchIndexError(Exception):
    """The index that TORCH_INDEX names does not have the pinned build of torch."""


@dataclass(frozen=True)
class Lock:
    """The packages of one environment."""

    path: Path
    torch: str  # for messages
    extra: Path | None = None  # the lock of packages beside those of `path`

    @property
    def environment(self) -> Path:
        parts = [str(LAYOUT), platform.python_version(), self.path.read_text("utf-8")]
        parts += [self.extra.read_text("utf-8")] if self.extra else []
        return FOLDER / hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]

    @property
    def ready(self) -> bool:
        """Whether the environment exists, and the Python that it was made with still does."""
        return (self.environment / "bin" / "python").exists()

    @property
    def torch_requirement(self) -> str:
        """The lines that pin torch."""
        found = re.search(r"^torch==(?:.*\\\n)*.*", self.path.read_text("utf-8"), re.MULTILINE)
        if not found:
            raise InstallError(f"{self.path} does not pin torch; run: make lock")
        return found[0]


CPU = Lock(HERE / "requirements.lock", "torch's CPU build")
CUDA = Lock(HERE / "requirements-cuda.lock", "the default index's build of torch, with CUDA")
MACOS = Lock(HERE / "requirements-macos.lock", "torch's build for macOS")


def find_links_has(requirement: str) -> bool:
    """Whether a folder in PIP_FIND_LINKS contains a wheel of torch that the requirement allows."""
    links = os.environ.get("PIP_FIND_LINKS", "").split()
    folders = (Path(link.removeprefix("file://")) for link in links)
    wheels = (wheel for folder in folders for wheel in folder.glob("torch-*.whl"))
    return any(hashlib.sha256(wheel.read_bytes()).hexdigest() in requirement for wheel in wheels)


def choose() -> Lock:
    """The lock for this system. On Linux the CPU build of torch, where it can be had."""
    system = platform.system(), platform.machine()
    if system == ("Darwin", "arm64"):
        return MACOS
    if system != ("Linux", "x86_64"):
        raise InstallError(f"no lock for {' '.join(system)}, only Linux x86_64 and Darwin arm64")
    if CPU.ready or os.environ.get("TORCH_INDEX") or find_links_has(CPU.torch_requirement):
        return CPU
    return CUDA


def pip_install(python: Path, requirements: Path, *options: str) -> None:
    """Installs pinned packages. What pip prints is shown only if it fails."""
    command = [python, "-I", "-m", "pip", "install", "--no-deps", "--require-hashes", "--no-input"]
    command += ["--disable-pip-version-check", *options, "--requirement", requirements]
    packages = len(re.findall(r"^[\w.-]+==", requirements.read_text("utf-8"), re.MULTILINE))
    collected = 0
    printed = []
    with subprocess.Popen(
        command,
        env=os.environ | {"PIP_USER": "0", "TMPDIR": str(requirements.parent)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as pip:
        for line in pip.stdout:
            if line.startswith("Collecting "):
                collected += 1
                if sys.stdout.isatty():
                    print(f"\r  {collected} of {packages} packages", end="\033[K", flush=True)
            elif not re.match("WARNING: Location .* is ignored", line):
                printed.append(line)
    if sys.stdout.isatty():
        print(end="\r\033[K")
    if pip.returncode:
        print(*printed[-30:], sep="", end="", file=sys.stderr)
        raise InstallError(f"pip could not install envs/{requirements.name}; its output is above")


def temporary_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=FOLDER))


def create(lock: Lock) -> None:
    """Builds an environment in a temporary folder and moves it into position."""
    work = temporary_folder()
    try:
        environment = work / "environment"
        venv.create(environment, symlinks=True, with_pip=True, prompt="pte-foundry")
        python = environment / "bin" / "python"
        if lock == CPU and (index := os.environ.get("TORCH_INDEX")):
            torch = work / lock.path.name
            torch.write_text(lock.torch_requirement, "utf-8")
            try:
                pip_install(python, torch, "--index-url", index)
            except InstallError:
                raise TorchIndexError from None
        pip_install(python, Path(shutil.copy(lock.path, work)))
        make_relocatable(environment)
        add_clone(environment)
        if lock.environment.exists():  # the Python that it was made with does not
            lock.environment.rename(work / "broken")
        environment.rename(lock.environment)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def add_extra(base: Lock, extra: Path) -> Lock:
    """Makes the environment of a lock and of extra requirements, from that of the lock."""
    work = temporary_folder()
    try:
        text = base.path.read_text("utf-8")
        if not is_resolved(extra, text):
            resolve(base.environment / "bin" / "python", extra, text, work)
        lock = replace(base, extra=lock_of(extra))
        if not lock.ready:
            extend(base.environment, environment := work / "environment")
            pinned = Path(shutil.copy(lock.extra, environment / INSTALLED))
            pip_install(environment / "bin" / "python", pinned)
            make_scripts_relocatable(environment)
            if lock.environment.exists():  # the Python that it was made with does not
                lock.environment.rename(work / "broken")
            environment.rename(lock.environment)
            print(f"Added the packages of {lock.extra} to the environment", flush=True)
        return lock
    finally:
        shutil.rmtree(work, ignore_errors=True)


def size(folder: Path) -> int:
    """What a folder takes on the disk, in bytes."""
    files = (Path(where, name) for where, _, names in os.walk(folder) for name in names)
    return sum(file.lstat().st_blocks * 512 for file in files)


def create_and_report(lock: Lock) -> None:
    began = time.monotonic()
    hint = "" if lock != CUDA else "; it is several GB larger than the CPU build, see README"
    print(f"Creating the environment with {lock.torch} (a few minutes, once{hint})", flush=True)
    create(lock)
    print(
        f"Created the environment in {time.monotonic() - began:.0f} s: "
        f"{size(lock.environment) / 1e9:.1f} GB with {lock.torch}",
        flush=True,
    )


def is_mapped(folder: Path) -> bool:
    """Whether a process has loaded a library from a folder. Known on Linux only."""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            if f" {folder}/".encode() in maps.read_bytes():
                return True
        except OSError:  # another user's process, or one that has ended
            pass
    return False


def point_link_at(environment: Path) -> None:
    """Swaps the link `.venv` in one step."""
    if LINK.is_dir() and not LINK.is_symlink():
        if not (LINK / ".ready").exists():  # as in those of older versions of this project
            raise InstallError(f"{LINK} is not an environment of this project; move it away")
        if is_mapped(LINK):
            raise InstallError("a process runs from the old .venv; run make again after it ends")
        LINK.rename(temporary_folder() / "previous")
    link = FOLDER / f"{TEMPORARY}link"
    link.unlink(missing_ok=True)
    link.symlink_to(environment.relative_to(ROOT))
    link.replace(LINK)


def in_use(environment: Path) -> bool:
    """Whether a Python of this environment runs: startup.py takes a lock."""
    try:
        with open(environment / "pyvenv.cfg", "rb") as settings:
            fcntl.flock(settings, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def superfluous(wanted: set[Path]) -> list[Path]:
    """What interrupted runs left, and environments that no process uses."""
    return [
        path
        for path in FOLDER.iterdir()
        if path.name.startswith(TEMPORARY)
        or (re.fullmatch(r"[0-9a-f]{12}", path.name) and path not in wanted and not in_use(path))
    ]


def is_current(base: Lock, extra: Path | None) -> bool:
    if extra and not is_resolved(extra, base.path.read_text("utf-8")):
        return False
    lock = replace(base, extra=lock_of(extra)) if extra else base
    target = str(lock.environment.relative_to(ROOT))
    linked = lock.ready and LINK.is_symlink() and os.readlink(LINK) == target
    return linked and not superfluous({base.environment, lock.environment})


def check_folder(root: Path) -> None:
    """Refuses a path that would work for the installation and not for what runs afterwards."""
    if os.pathsep in str(root) or not str(root).isprintable():
        raise InstallError(
            f"the path of this folder, {str(root)!r}, has a {os.pathsep!r}, which separates the "
            "folders in PATH, or a control character; rename the folder"
        )


def main() -> None:
    """Makes `.venv` a link to an environment with the packages of the current lock."""
    check_folder(ROOT)
    lock, extra = choose(), chosen(HERE, FOLDER)
    if is_current(lock, extra):
        return
    FOLDER.mkdir(exist_ok=True)
    with open(FOLDER / ".lock", "w") as installer:
        try:
            fcntl.flock(installer, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another make, which is creating the environment", flush=True)
            fcntl.flock(installer, fcntl.LOCK_EX)
            lock = choose()
        try:
            if not lock.ready:
                create_and_report(lock)
        except TorchIndexError:
            print("TORCH_INDEX does not have the file of torch that envs/requirements.lock pins")
            lock = CUDA
            if not lock.ready:
                create_and_report(lock)
        made = add_extra(lock, extra) if extra else lock
        point_link_at(made.environment)
        # That of the lock alone shares its files with the other one, and is where the next starts.
        for path in superfluous({lock.environment, made.environment}):
            # Renamed first, so that no half-removed folder has the name of an environment.
            doomed = FOLDER / f"{TEMPORARY}{path.name.removeprefix(TEMPORARY)}"
            path.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)


if __name__ == "__main__":
    try:
        main()
    except (InstallError, ExtraError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
