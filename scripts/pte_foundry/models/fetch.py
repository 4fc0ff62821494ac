"""Copies or downloads one weights or data file and checks its SHA-256.

The source is a file on disk, a URL, or a file of an installed package.
"""

import shutil
import time
import urllib.request
from pathlib import Path

from pte_foundry.errors import ModelError
from pte_foundry.files import replacing, sha256
from pte_foundry.packages import packaged_file

TIMEOUT = 60  # seconds without data
TRIES = 3  # of a download; a checksum mismatch is not retried


def fetch(source: dict, root: Path, output: Path) -> None:
    """Writes a file to ``output``, atomically.

    Args:
        source: ``sha256``, and one of ``file`` (relative to ``root``), ``url``, or ``package`` and
            ``file``.
        root: the project's folder.
        output: the path to write.

    Raises:
        ModelError: the file cannot be read or downloaded, or has another SHA-256; nothing is
            written.
    """
    with replacing(output) as temporary:
        if "url" in source:
            _download(source["url"], temporary, TRIES)
        elif "package" in source:
            shutil.copyfile(packaged_file(source["package"], source["file"]), temporary)
        else:
            path = root / source["file"]
            if not path.is_file():
                raise ModelError(f"{source['file']}: no such file (looked for it at {path})")
            shutil.copyfile(path, temporary)
        found = sha256(temporary)
        if found != source["sha256"]:
            raise ModelError(
                f"{_name(source)}: checksum mismatch.\n"
                f"  expected sha256 {source['sha256']}\n"
                f"  found    sha256 {found}\n"
                "Nothing was written. If you changed the file, put the found sha256 into the "
                "configuration; otherwise get the file from a source you trust."
            )


def _name(source: dict) -> str:
    if "url" in source:
        return source["url"]
    return f"{source['package']}:{source['file']}" if "package" in source else source["file"]


def _download(url: str, path: Path, tries: int) -> None:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, path.open("wb") as file:
            expected = answer.headers.get("Content-Length")
            shutil.copyfileobj(answer, file, 1 << 20)
        if expected is not None and path.stat().st_size != int(expected):
            raise OSError(f"the connection ended after {path.stat().st_size} of {expected} bytes")
    except OSError as error:  # urllib's errors are OSErrors
        if tries > 1:
            time.sleep(1)
            return _download(url, path, tries - 1)
        raise ModelError(
            f"{url}: the download failed: {error}. Check the address and rerun."
        ) from error
