"""Protects what a build says about the version that made it."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pte_foundry import version

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def library(tmp_path, monkeypatch) -> Path:
    """A clone as far as its version is concerned."""
    clone = tmp_path / "clone"
    (clone / "scripts/pte_foundry").mkdir(parents=True)
    (clone / "scripts/pte_foundry/a.py").write_text("A = 1\n")
    (clone / "README.md").write_text("one\n")
    (clone / "pyproject.toml").write_text('[project]\nversion = "3.2.1"\n')
    monkeypatch.setattr(version, "LIBRARY", clone / "scripts/pte_foundry")
    monkeypatch.setattr(version, "made_by", version.made_by.__wrapped__)
    return clone


def commit(folder: Path) -> str:
    """Commits everything; returns the commit."""

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "one")
    return git("rev-parse", "HEAD")


def test_a_clone_tells_its_commit_and_whether_its_code_was_edited(library):
    made = commit(library)
    expected = {"version": "3.2.1", "commit": made, "modified": False}
    assert version.made_by() == expected
    (library / "README.md").write_text("two\n")
    (library / "notes.txt").write_text("not tracked\n")
    assert version.made_by() == expected
    (library / "scripts/pte_foundry/a.py").write_text("A = 2\n")
    assert version.made_by() == expected | {"modified": True}
    assert version.shown(version.made_by()) == f"pte-foundry 3.2.1 (commit {made[:12]}, modified)"


def test_an_archive_in_a_repository_of_others_has_no_commit(library):
    commit(library.parent)
    assert version.made_by() == {"version": "3.2.1", "commit": None, "modified": None}
    assert version.shown(version.made_by()) == "pte-foundry 3.2.1"


def test_without_git_the_version_is_known(library, monkeypatch):
    commit(library)
    monkeypatch.setenv("PATH", "")
    assert version.made_by() == {"version": "3.2.1", "commit": None, "modified": None}


def test_a_library_that_pip_has_installed_from_a_repository_tells_its_commit(library, monkeypatch):
    (library / "pyproject.toml").unlink()
    site = library / "site"
    (site / "pte_foundry-4.0.dist-info").mkdir(parents=True)
    (site / "pte_foundry-4.0.dist-info/METADATA").write_text("Name: pte-foundry\nVersion: 4.0\n")
    monkeypatch.setattr(sys, "path", [str(site)])
    assert version.made_by() == {"version": "4.0", "commit": None, "modified": None}
    origin = '{"url": "https://example.org/x", "vcs_info": {"vcs": "git", "commit_id": "abc"}}'
    (site / "pte_foundry-4.0.dist-info/direct_url.json").write_text(origin)
    assert version.made_by() == {"version": "4.0", "commit": "abc", "modified": None}
    shutil.rmtree(site)
    assert version.own_version() == "not installed"


def test_every_place_has_the_version_of_pyproject():
    """The image is named in two files that cannot compute it; the changelog's newest entry."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    for name in ("Snakefile", "envs/Dockerfile"):
        found = re.findall(r"pte-foundry:([\w.]+)", (ROOT / name).read_text("utf-8"))
        assert set(found) == {wanted}, name
    entries = re.findall(r"^## ([\w.]+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert entries[0] == wanted
