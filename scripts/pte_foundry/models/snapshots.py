"""Folders as one file: snapshots of Hugging Face repositories, and folders of images.

A folder is packed into a zip archive, equal for equal files. Of a snapshot, a folder with a
``config.json``, only what transformers reads is packed: configurations, tokenizers, and weights as
safetensors. Pickles and Python files are left out, so nothing in an archive can run as code.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from pte_foundry.errors import DamagedError, ModelError
from pte_foundry.files import replacing, sha256

CONFIG = "config.json"
_SNAPSHOT = re.compile(r"[\w.-]+\.(json|txt|model|jinja)|model(-\d+-of-\d+)?\.safetensors")
_DESCRIPTION = ("*.json", "*.txt", "*.model", "*.jinja")
_WEIGHTS = "model*.safetensors"
_DATE = (1980, 1, 1, 0, 0, 0)


def files_of(folder: Path) -> dict[str, Path]:
    """Returns the files of a folder that are packed, by their paths in it."""
    if (folder / CONFIG).is_file():
        found = [path for path in folder.iterdir() if _SNAPSHOT.fullmatch(path.name)]
    else:
        found = [path for path in folder.rglob("*") if not _hidden(path.relative_to(folder))]
    return {path.relative_to(folder).as_posix(): path for path in sorted(found) if path.is_file()}


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def folder_digest(folder: Path) -> str | None:
    """Returns a digest of the files that are packed; None if there is no such folder."""
    if not folder.is_dir():
        return None
    found = hashlib.sha256()
    for name, path in files_of(folder).items():
        status = path.stat()
        found.update(f"{_digest(path, status.st_size, status.st_mtime_ns)}  {name}\n".encode())
    return found.hexdigest()


@cache
def _digest(path: Path, _size: int, _changed: int) -> str:
    return sha256(path)


def has_weights(names: Iterable[str]) -> bool:
    """Returns whether weights are among the files of a snapshot."""
    return any(_SNAPSHOT.fullmatch(name) and name.endswith(".safetensors") for name in names)


def pack(folder: Path, output: Path, *, weights: bool = True) -> None:
    """Writes the files of a folder into one archive, atomically.

    Args:
        folder: the folder.
        output: the archive.
        weights: with weights; otherwise only what describes the model.

    Raises:
        ModelError: there is no such folder, or it is empty.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: there is no such folder; correct its path in the config.")
    files = files_of(folder)
    if not files:
        raise ModelError(f"{folder}: there are no files in this folder.")
    with replacing(output, durable=True) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, path in files.items():
            if not weights and name.endswith(".safetensors"):
                continue
            entry = zipfile.ZipInfo(name, _DATE)
            with path.open("rb") as reading, archive.open(entry, "w", force_zip64=True) as writing:
                while block := reading.read(1 << 20):
                    writing.write(block)


def download(
    repo: str,
    revision: str,
    output: Path,
    endpoint: str | None = None,
    *,
    weights: bool = True,
) -> None:
    """Downloads a snapshot of a repository, without pickles and code, and packs it.

    Raises:
        ModelError: it cannot be downloaded.
    """
    from huggingface_hub import snapshot_download

    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download", dir=output.parent) as folder:
        try:
            snapshot_download(
                repo,
                revision=revision,
                allow_patterns=[*_DESCRIPTION, *([_WEIGHTS] if weights else [])],
                ignore_patterns="*/*",
                local_dir=folder,
                endpoint=endpoint,
            )
        except Exception as error:
            text = " ".join(str(error).split())
            raise ModelError(
                f"{repo} at {revision} cannot be downloaded: {type(error).__name__}: {text} "
                "Check the name, the commit and the network; for a private repository set HF_TOKEN."
            ) from error
        pack(Path(folder), output)


@contextmanager
def unpacked(archive: Path, *, weights: bool = True) -> Iterator[Path]:
    """Unpacks an archive that :func:`pack` wrote into a temporary folder.

    Args:
        archive: the file.
        weights: with weights; otherwise only what describes the model.

    Raises:
        DamagedError: it is missing, truncated or modified.
    """
    with tempfile.TemporaryDirectory(prefix="snapshot") as folder:
        try:
            with zipfile.ZipFile(archive) as opened:
                names = opened.namelist()
                wanted = [n for n in names if weights or not n.endswith(".safetensors")]
                opened.extractall(folder, wanted)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise DamagedError(archive, error) from error
        yield Path(folder)


@contextmanager
def source_of(held: Path, *, weights: bool = True) -> Iterator[Path]:
    """Unpacks a file if it is an archive (:func:`unpacked`); one of another kind is what it is."""
    if zipfile.is_zipfile(held):
        with unpacked(held, weights=weights) as folder:
            yield folder
    else:
        yield held
