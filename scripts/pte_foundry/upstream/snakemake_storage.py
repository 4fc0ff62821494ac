"""A run's default storage, such as a bucket: what is not in it, and access for hooks and checks.

Stands against: snakemake 9.27.1
Repairs: ``local()``. Without a shared file system ``Job.is_local`` (``jobs.py``) runs every job
    that has such an input on the machine that schedules, although the source files of a workflow
    are deployed to the others (https://github.com/snakemake/snakemake/issues/3735). The flag of
    paths that ``PathModifier`` (``path_modifier.py``) has modified already has no such effect.
    Uses ``storage_settings`` and ``storage_registry`` of ``Workflow`` (``workflow.py``), and the
    name that ``PathModifier.apply_default_storage`` gives a file in the storage. The methods of
    storage objects are those of the documented plugin interface.
Remove when: ``local()`` leaves open where a job runs, and hooks can read and write files of the
    default storage.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pte_foundry.errors import FoundryError
from pte_foundry.upstream.versions import require


def source(path: str) -> str:
    """Returns a file of the workflow itself as an input, which no default storage provider has."""
    from snakemake import path_modifier
    from snakemake.io import flag

    return flag(path, require(path_modifier, "PATH_MODIFIER_FLAG", patch=__name__))


class StorageError(FoundryError):
    """The storage cannot be reached, or refuses."""


class Storage:
    """The default storage of a run. Files are named by their paths in a run without one.

    Its methods are those of :class:`pte_foundry.place.Folder`.

    Attributes:
        prefix: where names start from in the storage.
        base: where names start from on this disk, in the folder of local copies.
        folder: where names start from in what a run is asked for.
    """

    stored = True

    def __init__(self, provider: Any, prefix: str, folder: Path = Path()) -> None:
        self._provider = provider
        self.folder = folder
        self.prefix = f"{prefix}/" if prefix and not prefix.endswith("/") else prefix
        copy = self._object("results").local_path()
        if copy.name != "results":
            raise StorageError(
                f"the storage plugin keeps the local copy of {self.prefix}results as {copy}; only "
                "plugins work whose local copies have the names of their files, such as s3"
            )
        self.base = copy.parent

    @classmethod
    def of(cls, workflow: Any, base: Path) -> Storage | None:
        """Returns the default storage of a run, or None if its results are on this disk.

        Args:
            workflow: the ``workflow`` of a Snakefile.
            base: the folder that names start from in a run without a storage.
        """
        registry = require(workflow, "storage_registry", patch=__name__)
        provider = require(registry, "default_storage_provider", patch=__name__)
        if provider is None:
            return None
        settings = require(workflow, "storage_settings", patch=__name__)
        prefix = require(settings, "default_storage_prefix", patch=__name__) or ""
        # Snakemake refuses a wrong prefix.
        prefix = "/".join(filter(None, [prefix.rstrip("/"), *base.parts]))
        valid = provider.is_valid_query(f"{prefix}/results")
        return cls(provider, prefix, base) if valid else None

    def name(self, file: str) -> str:
        """Returns the name of a file of a rule or job, given as Snakemake has it."""
        path = Path(file)
        inside = path.is_relative_to(self.base)
        return path.relative_to(self.base).as_posix() if inside else str(file)

    def asked(self, target: str) -> str:
        """Returns the name of a file that a run is asked for, as the command line has it."""
        return Path(os.path.relpath(target, self.folder)).as_posix()

    def target_of(self, name: str) -> str:
        """Returns what a run is to be asked for, to make a file; Snakemake adds the storage."""
        return os.fspath(self.folder / name)

    def file(self, name: str) -> str:
        """Returns a file as Snakemake has it."""
        from snakemake.storage import flag_with_storage_object

        return flag_with_storage_object(name, self._object(name))

    def exists(self, name: str) -> bool:
        return self._ask(name, lambda file: file.exists())

    def size(self, name: str) -> int | None:
        """Returns the bytes of a file, or None if it does not exist."""
        return self._ask(name, lambda file: file.size() if file.exists() else None)

    def target(self, name: str) -> Path:
        """Returns the path of a file's local copy, to write it; :meth:`store` stores it."""
        return self.base / name

    def shown(self, name: str) -> str:
        """Returns how messages name a file."""
        return name

    def address(self, name: str) -> str:
        """Returns where a file or folder is, for people: its address in the storage."""
        return f"{self.prefix}{name}"

    def path(self, name: str) -> Path:
        """Returns the path of a file's local copy, which is made if the file exists."""
        path = self.base / name

        def retrieve(file: Any) -> None:
            if file.exists() and not (path.exists() and path.stat().st_mtime >= file.mtime()):
                path.parent.mkdir(parents=True, exist_ok=True)
                file.retrieve_object()

        self._ask(name, retrieve)
        return path

    def store(self, name: str) -> None:
        """Stores the local copy of a file."""
        self._ask(name, lambda file: file.store_object())

    def remove(self, name: str) -> None:
        """Removes a file, if it exists, and its local copy."""
        self._ask(name, lambda file: file.remove() if file.exists() else None)
        with suppress(FileNotFoundError):
            (self.base / name).unlink()

    def _object(self, name: str) -> Any:
        return self._provider.object(f"{self.prefix}{name}")

    def _ask(self, name: str, act: Callable[[Any], Any]) -> Any:
        file = self._object(name)
        try:
            return act(file)
        except Exception as error:  # of the library that the plugin uses
            raise StorageError(
                f"the storage of the results cannot be used: {file.print_query}: "
                f"{type(error).__name__}: {error}"
            ) from error
