"""Claims a place in a storage for one folder.

Snakemake keeps the records of what results were made from, and the lock of a build, in the folder
that it runs in. So results in a storage belong to that folder: another one would take them for up
to date whatever they were made from, and could write them at the same time.
"""

from __future__ import annotations

import os
import platform
import time
import uuid
from pathlib import Path

from pte_foundry.canonical_json import digest
from pte_foundry.errors import DamagedError, FoundryError
from pte_foundry.files import read_json, write_json
from pte_foundry.terminal import lines
from pte_foundry.upstream.snakemake_storage import Storage
from pte_foundry.workflow.build_lock import FOLDER, user_name

MARK = "pte-foundry.json"
"""The name in the storage of what says whose it is."""

OURS = FOLDER / "folder.json"


class ClaimedError(FoundryError):
    """The results in the storage are those of another folder."""


def check_claim(storage: Storage, folder: Path) -> bool:
    """Returns whether the storage is claimed for a folder already.

    Raises:
        ClaimedError: it is claimed for another one.
        StorageError: the storage cannot be used.
    """
    if not storage.exists(MARK):
        return False
    try:
        mark = read_json(storage.path(MARK))
    except DamagedError:
        mark = {"of": f"another folder, which its {MARK} does not tell", "id": ""}
    ours = _id_of(folder)
    if ours is None or mark.get("id") != ours:
        raise ClaimedError(
            f"the results in {storage.prefix} are of {lines(str(mark.get('of')))}. The records of "
            "what they were made from are there, so this folder cannot tell which of them are out "
            "of date. Build in that folder, or choose another --default-storage-prefix, or delete "
            f"everything below {storage.prefix}."
        )
    return True


def claim(storage: Storage, folder: Path) -> None:
    """Claims the storage for a folder; raises as :func:`check_claim` does."""
    if check_claim(storage, folder):
        return
    number = _id_of(folder) or uuid.uuid4().hex
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    of = f"{folder} of {user_name()} on {platform.node()}, since {since}"
    write_json(folder / OURS, {"id": number}, durable=True)
    write_json(storage.base / MARK, {"id": number, "of": of})
    storage.store(MARK)


def _id_of(folder: Path) -> str | None:
    try:
        return read_json(folder / OURS)["id"]
    except DamagedError:
        return None


def conclude(storage: Storage, folder: Path, written: list[str]) -> None:
    """Stores what was written at the end of a failed run, until the next run begins.

    Files in a storage are as new as they are stored, so the next run could take them for up to
    date.
    """
    write_json(_outdated(storage, folder), {"files": written}, durable=True)
    for name in written:
        storage.store(name)
        os.unlink(storage.base / name)


def begin(storage: Storage, folder: Path) -> None:
    """Removes what :func:`conclude` has stored."""
    note = _outdated(storage, folder)
    try:
        written = read_json(note)["files"]
    except DamagedError:
        return
    for name in written:
        storage.remove(name)
    note.unlink()


def _outdated(storage: Storage, folder: Path) -> Path:
    return folder / FOLDER / f"outdated-{digest(storage.prefix)[:8]}.json"
