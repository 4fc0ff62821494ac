"""The text of ``pte-foundry --version``."""

import platform
from importlib import metadata

from pte_foundry.version import made_by, shown

LIBRARIES = ("torch", "torchao", "executorch", "coremltools", "snakemake")
"""Those whose version can change an artifact."""


def versions_text() -> str:
    """Returns a line for each version, without importing the libraries."""
    lines = [f"{name} {_installed(name)}" for name in LIBRARIES]
    return "\n".join([shown(made_by()), f"python {platform.python_version()}", *lines])


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
