"""Files from Snakemake's cache between workflows (``--cache``): copies, and checked.

Stands against: snakemake 9.27.1
Repairs: ``OutputFileCache`` (``caching/local.py``). It moves an output into the cache and leaves a
    symbolic link, which is no file to ship, and which a later write to the cache changes; and it
    takes whatever is in the cache, also half a file, as that of ``caching/storage.py`` does for a
    storage provider. Here the cache keeps a SHA-256 beside each entry, and what does not match it
    is rebuilt. Everybody who may write to the cache is trusted: the checksum shows damage, and a
    file that was put in the place of another, but not who did it.
    ``SpawnedJobArgsFactory`` (``spawn_jobs.py``), which gives jobs on a cluster ``--cache`` only
    with names of rules (https://github.com/snakemake/snakemake/pull/3080): without, as in our
    README, they neither fill the cache nor take from it.
Remove when: the cache can copy instead of link, and keeps checksums of its entries; and a
    ``--cache`` without names reaches jobs on a cluster.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pte_foundry.files import sha256, write_bytes
from pte_foundry.upstream.versions import require

_DIGEST = ".sha256"


def copy_and_check() -> None:
    """Lets the cache give checked copies, once per process."""
    _copy_files()
    _check_objects()


def _copy_files() -> None:
    from snakemake.caching.local import OutputFileCache
    from snakemake.logging import logger

    fetch = require(OutputFileCache, "fetch", "self job", patch=__name__)
    if hasattr(fetch, "__wrapped__"):
        return
    store = require(OutputFileCache, "store", "self job", patch=__name__)
    exists = require(OutputFileCache, "exists", "self job", patch=__name__)
    require(OutputFileCache, "symlink", "self path outputfile utime", patch=__name__)
    require(OutputFileCache, "raise_cache_miss_exception", "self job", patch=__name__)
    pairs = require(OutputFileCache, "get_outputfiles_and_cachefiles", "self job", patch=__name__)

    @wraps(store)
    async def stored(self: Any, job: Any) -> None:
        # The checksums of an older entry would not match, so nobody takes half of each.
        digests = {entry: sha256(file) for file, entry in await pairs(self, job)}
        await store(self, job)
        for entry, digest in digests.items():
            write_bytes(_digest_of(entry), digest.encode())

    @wraps(fetch)
    async def fetched(self: Any, job: Any) -> None:
        entries = [entry for _, entry in await pairs(self, job)]
        if not all(entry.is_file() for entry in entries):
            self.raise_cache_miss_exception(job)
        if damaged := [entry for entry in entries if not _intact(entry)]:
            names = ", ".join(map(str, damaged))
            logger.warning(f"damaged in the cache, so rebuilt: {names}")
            self.raise_cache_miss_exception(job)
        await fetch(self, job)

    @wraps(exists)
    async def existing(self: Any, job: Any) -> bool:
        return await exists(self, job) and all(
            _intact(entry) for _, entry in await pairs(self, job)
        )

    def symlink(self: Any, path: Path, outputfile: Path, utime: bool = True) -> None:
        # Another process may replace the entry meanwhile, so what is checked is the copy.
        shutil.copyfile(path, outputfile)
        if utime and sha256(outputfile) != _digest_of(path).read_text(encoding="ascii"):
            outputfile.unlink()
            raise OSError(f"{path} has changed while it was read. Run the build again.")

    OutputFileCache.store, OutputFileCache.fetch = stored, fetched
    OutputFileCache.exists, OutputFileCache.symlink = existing, symlink


def give_to_jobs(workflow: Any) -> None:
    """Lets jobs on a cluster use the cache as well, if this run does.

    Args:
        workflow: the ``workflow`` of a Snakefile whose rules have been read.
    """
    settings = require(workflow, "workflow_settings", patch=__name__)
    if require(settings, "cache", patch=__name__) == []:
        rules = require(workflow, "rules", patch=__name__)
        settings.cache = [r.name for r in rules if require(r, "cache", patch=__name__).output]


def _check_objects() -> None:
    """The same for a cache in the storage of the results."""
    from snakemake.caching.storage import OutputFileCache
    from snakemake.logging import logger

    fetch = require(OutputFileCache, "fetch", "self job", patch=__name__)
    if hasattr(fetch, "__wrapped__"):
        return
    store = require(OutputFileCache, "store", "self job", patch=__name__)
    objects = require(
        OutputFileCache, "_get_storage_objects", "self job check_output_exists", patch=__name__
    )

    @wraps(store)
    async def stored(self: Any, job: Any) -> None:
        digests = [(entry, sha256(entry.local_path())) async for entry in objects(self, job)]
        await store(self, job)
        for entry, digest in digests:
            with _note_of(self, entry) as note:
                note.local_path().write_text(digest, encoding="ascii")
                await note.managed_store()

    @wraps(fetch)
    async def fetched(self: Any, job: Any) -> None:
        entries = [entry async for entry in objects(self, job)]
        try:
            await fetch(self, job)
            damaged = [entry for entry in entries if not await intact(self, entry)]
        except BaseException:
            _unlink(entries)
            raise
        if damaged:
            names = ", ".join(entry.print_query for entry in damaged)
            logger.warning(f"damaged in the cache, so rebuilt: {names}")
            _unlink(entries)
            self.raise_cache_miss_exception(job)

    async def intact(self: Any, entry: Any) -> bool:
        with _note_of(self, entry) as note:
            if not await note.managed_exists():
                return False
            await note.managed_retrieve()
            digest = note.local_path().read_text(encoding="ascii", errors="replace")
            return digest == sha256(entry.local_path())

    OutputFileCache.store, OutputFileCache.fetch = stored, fetched


@contextmanager
def _note_of(cache: Any, entry: Any) -> Iterator[Any]:
    """The object with the checksum of an entry."""
    note = cache.storage_provider.object(f"{entry.query}{_DIGEST}")
    with TemporaryDirectory() as folder:
        note.set_local_path(Path(folder, "digest"))
        yield note


def _unlink(entries: Iterable[Any]) -> None:
    for entry in entries:
        entry.local_path().unlink(missing_ok=True)


def _digest_of(entry: Path) -> Path:
    return entry.with_name(entry.name + _DIGEST)


def _intact(entry: Path) -> bool:
    try:
        return _digest_of(entry).read_text(encoding="ascii") == sha256(entry)
    except (OSError, UnicodeDecodeError):
        return False
