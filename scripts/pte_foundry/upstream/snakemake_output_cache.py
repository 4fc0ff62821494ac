"""Files from Snakemake's cache between workflows (``--cache``): copies, and checked.

Stands against: snakemake 9.27.1
Repairs: ``OutputFileCache`` (``caching/local.py``). It moves an output into the cache and leaves a
    symbolic link, which is no file to ship, and which a later write to the cache changes; and it
    takes whatever is in the cache, also half a file. Here the cache keeps a SHA-256 beside each
    entry, and what does not match it is rebuilt. Everybody who may write to the cache is trusted:
    the checksum shows damage, and a file that was put in the place of another, but not who did it.
    ``SpawnedJobArgsFactory`` (``spawn_jobs.py``), which gives jobs on a cluster ``--cache`` only
    with names of rules (https://github.com/snakemake/snakemake/pull/3080): without, as in our
    README, they neither fill the cache nor take from it.
Remove when: the cache can copy instead of link, and keeps checksums of its entries; and a
    ``--cache`` without names reaches jobs on a cluster.
"""

import shutil
from functools import wraps
from pathlib import Path
from typing import Any

from pte_foundry.files import sha256, write_bytes
from pte_foundry.upstream.versions import require

_DIGEST = ".sha256"


def copy_and_check() -> None:
    """Lets the cache give checked copies, once per process."""
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


def _digest_of(entry: Path) -> Path:
    return entry.with_name(entry.name + _DIGEST)


def _intact(entry: Path) -> bool:
    try:
        return _digest_of(entry).read_text(encoding="ascii") == sha256(entry)
    except (OSError, UnicodeDecodeError):
        return False
