"""Which version of pte-foundry this is: that of pyproject.toml, and the commit of a clone."""

from __future__ import annotations

import json
import subprocess
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TypedDict

from pte_foundry.lock import LIBRARY

NAME = "pte-foundry"
CODE = ("Snakefile", "rules", "scripts", "envs")
"""What of a clone builds artifacts. Other changes of its files do not make another version."""


class MadeBy(TypedDict):
    """What has made a build.

    Attributes:
        version: as in pyproject.toml.
        commit: the git commit; None: it is not known, as of an archive without a repository.
        modified: whether files that build were edited after that commit; None: it is not known.
    """

    version: str
    commit: str | None
    modified: bool | None


def own_version() -> str:
    """Returns the version of this library: of the clone it is in, or as it was installed."""
    project = LIBRARY.parents[1] / "pyproject.toml"
    if project.is_file():
        return tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError:
        return "not installed"


@cache
def made_by() -> MadeBy:
    """Returns the version and commit of this library. Takes 20 ms in a clone, where git tells."""
    clone = LIBRARY.parents[1]
    found = _git(clone, "rev-parse", "--show-toplevel", "HEAD")
    if found and Path(found[0]).resolve() == clone:  # not of a repository that the clone is in
        changed = _git(clone, "status", "--porcelain", "--untracked-files=no", "--", *CODE)
        modified = None if changed is None else bool(changed)
        return {"version": own_version(), "commit": found[1], "modified": modified}
    commit = None if (clone / "pyproject.toml").is_file() else _installed_commit()
    return {"version": own_version(), "commit": commit, "modified": None}


def shown(made: MadeBy) -> str:
    """Returns one line about what has made a build."""
    text = f"{NAME} {made['version']}"
    if made["commit"]:
        text += f" (commit {made['commit'][:12]}{', modified' if made['modified'] else ''})"
    return text


def _git(folder: Path, *arguments: str) -> list[str] | None:
    """Returns the lines that git prints about a repository; None if there is none, or no git."""
    try:
        done = subprocess.run(
            ["git", "-C", folder, *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout.splitlines() if done.returncode == 0 else None


def _installed_commit() -> str | None:
    """Returns the commit that ``pip install git+…`` has installed from."""
    try:
        origin = json.loads(metadata.distribution(NAME).read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return None
    return origin.get("vcs_info", {}).get("commit_id")
