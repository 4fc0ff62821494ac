"""The packages that are installed, by what their folders are called, and the lock that pins them.

Only names, versions and lists of files are read, and nothing is imported: planning calls this.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pte_foundry.files import sha256
from pte_foundry.lock import data_packages, lock_file, locked_versions, normalized

_SITES = ("site-packages", "dist-packages")
_METADATA = re.compile(r"([A-Za-z0-9._]+)-([^-]+)\.dist-info")
# Labels (PEP 440) of builds for other processors, which give the same bytes.
_HARDWARE = re.compile(r"\+(cpu|cu\d+|rocm[\d.]+|xpu)$")
_NAME = re.compile(r"Requires-Dist: *([A-Za-z0-9._-]+)")


@dataclass(frozen=True)
class Distribution:
    """An installed package: normalised name, version, and its folder of metadata."""

    name: str
    version: str
    metadata: Path

    @property
    def folder_of_origin(self) -> str | None:
        """The folder that it was installed from (``pip install -e``); None: from an index."""
        try:
            origin = json.loads((self.metadata / "direct_url.json").read_bytes())
        except (OSError, ValueError):
            return None
        return None if "archive_info" in origin else str(origin.get("url"))

    @property
    def files(self) -> list[Path]:
        """The files that it has installed, without compiled Python, scripts and metadata."""
        names = (line.split(b",")[0].strip(b'"').decode() for line in _record(self).splitlines())
        site = self.metadata.parent
        return [
            site / name
            for name in sorted(filter(None, names))
            if not name.startswith(("..", "/", self.metadata.name)) and not name.endswith(".pyc")
        ]

    @property
    def requirements(self) -> set[str]:
        """The normalised names of the packages that it needs, or can use."""
        text = (self.metadata / "METADATA").read_text(encoding="utf-8", errors="replace")
        return set(map(normalized, _NAME.findall(text)))

    def digest(self) -> str:
        """Returns the SHA-256 of its files and their names."""
        site, found = self.metadata.parent, hashlib.sha256()
        for file in self.files:
            if file.is_file():
                found.update(f"{sha256(file)}  {file.relative_to(site).as_posix()}\n".encode())
        return found.hexdigest()


@cache
def _record(distribution: Distribution) -> bytes:
    try:
        return b"\n" + (distribution.metadata / "RECORD").read_bytes()
    except OSError:
        return b""


@cache
def search_path() -> tuple[str, ...]:
    """Returns where the steps of a build search for modules.

    Steps run by ``python -P`` (:mod:`pte_foundry.job.command`). Other processes, such as Snakemake,
    have more folders in ``sys.path``, so one that is started like a step tells.
    """
    if sys.flags.safe_path and "snakemake" not in sys.modules:
        return tuple(sys.path)
    code = "import json, sys; print(json.dumps(sys.path))"
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


@cache
def is_site(folder: str) -> bool:
    """Returns whether packages are installed into this folder, as by ``pip install --target``."""
    if Path(folder).name in _SITES:
        return True
    try:
        return any(map(_METADATA.fullmatch, os.listdir(folder)))
    except OSError:
        return False


@cache
def distributions(folders: tuple[str, ...]) -> dict[str, Distribution]:
    """Returns the installed packages by normalised name; the first one in ``folders`` counts."""
    found: dict[str, Distribution] = {}
    for folder in filter(is_site, folders):
        for entry in sorted(os.listdir(folder)) if Path(folder).is_dir() else ():
            if named := _METADATA.fullmatch(entry):
                name = normalized(named[1])
                distribution = Distribution(name, named[2], Path(folder, entry))
                found.setdefault(name, distribution)
    return found


@cache
def owner(file: Path, folders: tuple[str, ...]) -> Distribution | None:
    """Returns the package that has installed a file, or None."""
    known = distributions(folders)
    for site in map(Path, filter(is_site, folders)):
        if not file.is_relative_to(site):
            continue
        inside = file.relative_to(site)
        line = f"\n{inside.as_posix()},".encode()
        likely = known.get(normalized(inside.parts[0].removesuffix(".py")))
        for each in filter(None, (likely, *known.values())):
            if each.metadata.parent == site and line in _record(each):
                return each
    return None


def same_version(installed: str, locked: str) -> bool:
    """Returns whether two versions are equal, but for labels such as ``+cpu`` of torch."""
    return _HARDWARE.sub("", installed) == _HARDWARE.sub("", locked)


def is_locked(distribution: Distribution, lock: Path | None = None) -> bool:
    """Returns whether the lock determines the files of an installed package."""
    locked = locked_versions(lock or lock_file()).get(distribution.name)
    if locked is None or not same_version(distribution.version, locked):
        return False
    return distribution.folder_of_origin is None


def differences(lock: Path, folders: Iterable[str] | None = None) -> dict[str, str]:
    """Returns the packages of a lock that are not installed as it says, each with what there is.

    Takes 5 ms: names of folders tell the versions.

    Args:
        lock: the lock file.
        folders: where to look; by default where the steps of a build do.
    """
    known = distributions(tuple(folders or search_path()))
    found = {}
    for name, version in locked_versions(lock).items():
        installed = known.get(name)
        if installed is None:
            if name not in data_packages(lock):
                found[name] = "is not installed"
        elif not same_version(installed.version, version):
            found[name] = installed.version
        elif origin := installed.folder_of_origin:
            found[name] = f"{installed.version} from {origin}"
    return found
