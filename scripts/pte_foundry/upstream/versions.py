"""Checks that the installed libraries are those that the patches are written against.

Another version gives other bytes without an error, or fails deep inside of upstream.
"""

import inspect
import os
from functools import cache
from pathlib import Path
from typing import Any

from pte_foundry.errors import FoundryError
from pte_foundry.installed import differences
from pte_foundry.lock import extra_lock, lock_file, locked_versions

# What is patched or reached into here, and what else writes an artifact's bytes: numpy finds the
# tables of a codebook, protobuf encodes the Core ML program.
PINNED = (
    "coremltools",
    "executorch",
    "numpy",
    "protobuf",
    "snakemake",
    "snakemake-executor-plugin-slurm",
    "snakemake-interface-storage-plugins",
    "torch",
    "torchao",
    "torchvision",
)


_SHOWN = 12  # packages in a message


class UpstreamError(FoundryError):
    """An installed library is not the version that this one is written against."""


LOCK_VARIABLE, OFF = "FOUNDRY_LOCK", "off"
"""With ``FOUNDRY_LOCK=off`` a build takes the other packages as they are installed."""


@cache
def assert_pinned() -> None:
    """Compare all installed packages with the lock, once per process.

    Every package of the lock counts, not only those that are known to write bytes: nobody can tell
    which of 170 packages torch, transformers or a model's file import for what, and digests of code
    hold the lock's versions. So does every one that was added to the environment with a lock of its
    own. Labels such as ``+cpu`` of torch do not count. Nothing is compared if there is no lock
    file, as in a library that was installed without one. Takes 10 ms.

    With ``FOUNDRY_LOCK=off`` only :data:`PINNED` counts. Digests of code then hold the installed
    versions as well.

    Raises:
        UpstreamError: naming every package that differs, with both versions.
    """
    lock = lock_file()
    if not lock.is_file():
        return
    found, locked = differences(lock), locked_versions(lock)
    if (extra := extra_lock()).is_file():
        found, locked = {**differences(extra), **found}, locked_versions(extra) | locked
    patched = found.keys() & set(PINNED)
    if os.environ.get(LOCK_VARIABLE) == OFF:
        found = {name: there for name, there in found.items() if name in patched}
    if not found:
        return
    path = _shown(lock)
    # Those that make the build impossible first.
    names = sorted(found, key=lambda name: (name not in patched, name))
    listed = [f"{name} {found[name]} (locked: {locked[name]})" for name in names]
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    fix = (
        "Run `make`, which creates the locked environment, and use that one, or install the lock "
        f"into this one: pip install --no-deps --require-hashes -r {path}"
    )
    if not patched:
        fix += (
            f"\nTo build with the packages as they are, set {LOCK_VARIABLE}={OFF}: the manifest "
            "then names them."
        )
    raise UpstreamError(
        f"this environment differs from the lock {path}, so artifacts could get other bytes: "
        f"{', '.join(listed[:_SHOWN])}{more}. {fix}"
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


def without_label(version: str) -> str:
    """Return a version without its local label (PEP 440): ``2.13.0`` of ``2.13.0+cpu``."""
    return version.partition("+")[0]


def _shown(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
