"""The text of ``pte-foundry --version``."""

import platform
import tomllib
from importlib import metadata

from pte_foundry.lock import LIBRARY

LIBRARIES = ("torch", "torchao", "executorch", "coremltools", "snakemake")
"""Those whose version can change an artifact."""


def versions_text() -> str:
    """Returns a line for each version, without importing the libraries."""
    lines = [("pte-foundry", own_version()), ("python", platform.python_version())]
    return "\n".join(f"{n} {v}" for n, v in [*lines, *((n, _installed(n)) for n in LIBRARIES)])


def own_version() -> str:
    """Returns the version of this library: of the clone it is in, or as it was installed."""
    project = LIBRARY.parents[1] / "pyproject.toml"
    if project.is_file():
        return tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
    return _installed("pte-foundry")


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
