"""Checks that the installed libraries are those that the patches are written against.

Another version gives other bytes without an error, or fails deep inside of upstream.
"""

import inspect
from functools import cache
from pathlib import Path
from typing import Any

from pte_foundry.errors import FoundryError
from pte_foundry.lock import lock_file, locked_versions

# What is patched or reached into here, and what else writes an artifact's bytes: numpy finds the
# tables of a codebook, protobuf encodes the Core ML program.
PINNED = (
    "coremltools",
    "executorch",
    "numpy",
    "protobuf",
    "snakemake",
    "snakemake-executor-plugin-slurm",
    "torch",
    "torchao",
    "torchvision",
)


class UpstreamError(FoundryError):
    """An installed library is not the version that this one is written against."""


@cache
def assert_pinned() -> None:
    """Compare the installed versions of :data:`PINNED` with the lock, once per process.

    Local version labels do not count: ``2.13.0+cpu`` and ``2.13.0`` give the same bytes. Nothing is
    compared if there is no lock file, as in a library that was installed without one. Takes 7 ms:
    it reads the packages' metadata and imports none of them.

    Raises:
        UpstreamError: naming every package that differs, with both versions.
    """
    lock = lock_file()
    if not lock.is_file():
        return
    locked = locked_versions(lock)
    differing = [
        f"{name} {installed or 'is not installed'} (locked: {locked[name]})"
        for name in PINNED
        if name in locked and (installed := _installed(name)) != without_label(locked[name])
    ]
    if differing:
        path = _shown(lock)
        raise UpstreamError(
            f"this environment differs from the lock {path}, so artifacts could get other bytes: "
            f"{', '.join(differing)}. Run `make`, which creates the locked environment, and use "
            f"that one, or install the lock into this one: "
            f"pip install --no-deps --require-hashes -r {path}"
        )


def require(owner: Any, name: str, parameters: str | None = None, *, patch: str) -> Any:
    """Return an attribute that a patch replaces or uses, after checking that it is as expected.

    Args:
        owner: a module, class or object of an upstream library.
        name: the attribute.
        parameters: names of the parameters of the function, separated by spaces; None: no function.
        patch: the module that needs it, ``__name__``.

    Raises:
        UpstreamError: naming the patch, if the attribute is missing or its parameters differ.
    """
    where = f"{getattr(owner, '__name__', type(owner).__name__)}.{name}"
    missing = object()
    found = getattr(owner, name, missing)
    if found is missing:
        problem = f"{where} does not exist"
    elif parameters is None or (taken := " ".join(inspect.signature(found).parameters)) == (
        parameters
    ):
        return found
    else:
        problem = f"{where} takes ({taken}), not ({parameters})"
    raise UpstreamError(
        f"{problem}, but {patch} needs it. Install the version which that file's docstring names "
        "under `Stands against`, or adapt the file."
    )


def _installed(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # 20 ms

    try:
        return without_label(version(name))
    except PackageNotFoundError:
        return ""


def without_label(version: str) -> str:
    """Return a version without its local label (PEP 440): ``2.13.0`` of ``2.13.0+cpu``."""
    return version.partition("+")[0]


def _shown(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
