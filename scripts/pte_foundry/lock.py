"""The lock file of the environment: which version of every package a build runs with."""

import re
import sys
from functools import cache
from pathlib import Path

LIBRARY = Path(__file__).resolve().parent


def lock_file() -> Path:
    """Returns the lock file of this system: of the clone, or the copy in an installed library.

    Both Linux builds of torch have the same versions, so one file speaks for both.
    """
    clone = LIBRARY.parents[1] / "envs"
    folder = clone if clone.is_dir() else LIBRARY / "locks"
    return folder / f"requirements{'-macos' if sys.platform == 'darwin' else ''}.lock"


def extra_lock() -> Path:
    """Returns the lock of the packages that `make environment EXTRA=FILE` has added, if any.

    They are no part of :func:`lock_file`: who imports them depends on their files, others do not.
    """
    return Path(sys.prefix) / "extra.lock"


@cache
def locked_versions(lock: Path) -> dict[str, str]:
    """Returns the version of every package in a lock file, by its normalised name (PEP 503)."""
    found = re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    return {normalized(name): version for name, version in sorted(found)}


def normalized(name: str) -> str:
    """Returns the normalised name of a package (PEP 503): ``ruamel-yaml`` of ``ruamel.yaml``."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def data_packages(lock: Path) -> frozenset[str]:
    """Returns the normalised names of the packages of a lock that only hold weights: models.in.

    Only builds of their models need them, and the check of a config tells if one is missing.
    """
    requirements = lock.with_name("models.in")
    text = requirements.read_text(encoding="utf-8") if requirements.is_file() else ""
    return frozenset(map(normalized, re.findall(r"^([\w.-]+)", text, re.MULTILINE)))
