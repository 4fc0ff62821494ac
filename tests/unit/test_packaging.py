"""Protects the library as a package: what pip installs, and what pip is told it needs."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_pip_installs_the_library_with_its_command_and_locks(tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    for name in ("pyproject.toml", "setup.py", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, project)
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("scripts", "envs"):
        shutil.copytree(ROOT / name, project / name, ignore=ignore)
    installed = tmp_path / "installed"
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", installed)
    subprocess.run([sys.executable, "-m", "pip", "install", *options, project], check=True)
    sources = {
        file.relative_to(ROOT / "scripts")
        for file in (ROOT / "scripts").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    plugin = Path("pte_foundry/progress")
    wanted = {f.relative_to(plugin) if f.is_relative_to(plugin) else f for f in sources}
    locks = [*(ROOT / "envs").glob("*.lock"), ROOT / "envs/models.in"]
    wanted |= {Path("pte_foundry/locks") / lock.name for lock in locks}
    assert {f for f in wanted if not (installed / f).is_file()} == set()
    assert (installed / "bin" / "pte-foundry").is_file()


def test_what_the_package_needs_is_in_the_lock():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["build"]]
    lock = (ROOT / "envs/requirements.lock").read_text("utf-8")
    locked = set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))
    assert not {re.match(r"[\w-]+", requirement)[0] for requirement in needed} - locked
