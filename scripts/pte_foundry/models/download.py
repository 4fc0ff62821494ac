"""Downloads that survive cut connections and busy servers.

urllib, with the system's certificates and proxies, and a loop of our own: HTTP libraries retry
requests, but none of those in the lock resumes a body that was cut.
"""

import errno
import hashlib
import http.client
import shutil
import ssl
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from pte_foundry.errors import ModelError
from pte_foundry.files import rename, sha256

TIMEOUT = 60  # seconds without data
TRIES = 5  # in a row in which less than PROGRESS arrived
PROGRESS = 1 << 20  # bytes
BACKOFF = 1.0  # seconds before the second try; doubled for each that follows
LONGEST_WAIT = 120  # seconds, also if the server asks for more

PARTIAL = ".pte-foundry-part-"
"""Prefix of a file that is being downloaded; the next run goes on with it."""

_CHUNK = 1 << 20
_BUSY = {408, 425, 429, 500, 502, 503, 504}  # states of a server that pass (RFC 9110, 6585, 8470)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


class _CutError(OSError):
    """The connection ended before the file did."""


def download(url: str, digest: str, output: Path) -> None:
    """Writes what a URL gives to ``output``, if its SHA-256 is ``digest``.

    A download that is cut goes on where it stopped, in this run or in the next one, if the server
    can do that. So a large file is on the disk once, and travels once.

    Raises:
        ModelError: it cannot be downloaded, or has another SHA-256.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(f"{url} {digest}".encode()).hexdigest()[:16]
    partial = output.with_name(PARTIAL + name)
    for other in output.parent.glob(f"{PARTIAL}*"):
        if other != partial and other.is_file():
            other.unlink()  # of an older configuration
    transfer = _Transfer(url, partial)
    try:
        transfer.run()
        if transfer.resumed and sha256(partial) != digest:
            transfer = _Transfer(url, partial)  # the file on the server has changed meanwhile
            partial.unlink()
            transfer.run()
        found = sha256(partial)
        if found != digest:
            partial.unlink()
            raise ModelError(mismatch(url, digest, found))
        rename(partial, output, durable=True)
    finally:
        with suppress(OSError):
            if not partial.stat().st_size:
                partial.unlink()


def digest_of(url: str) -> str:
    """Downloads what a URL gives, and returns its SHA-256. Raises ModelError."""
    with tempfile.TemporaryDirectory() as folder:
        partial = Path(folder, "file")
        _Transfer(url, partial).run()
        return sha256(partial)


def mismatch(name: str, expected: str, found: str) -> str:
    """Returns the message about a file that has another SHA-256 than expected."""
    return (
        f"{name}: checksum mismatch.\n"
        f"  expected sha256 {expected}\n"
        f"  found    sha256 {found}\n"
        "Nothing was written. If you changed the file, put the found sha256 into the "
        "configuration; otherwise get the file from a source you trust."
    )


class _Transfer:
    """One file on its way to ``partial``.

    Attributes:
        resumed: whether a part of the file came with an earlier answer.
    """

    def __init__(self, url: str, partial: Path) -> None:
        self.url = url
        self.partial = partial
        self.resumed = False
        self._validator = ""  # tells the version of the file that the part is of

    def run(self) -> None:
        """Downloads until the file is complete. Raises ModelError."""
        tries = 0
        while True:
            before = self._size()
            try:
                self._request()
                return
            except (OSError, http.client.HTTPException, ValueError) as error:
                tries = 1 if self._size() - before >= PROGRESS else tries + 1
                if tries >= TRIES or not _passes(error):
                    raise ModelError(self._failure(error, tries)) from error
                time.sleep(_wait(error, tries))

    def _size(self) -> int:
        return self.partial.stat().st_size if self.partial.exists() else 0

    def _request(self) -> None:
        size = self._size()
        request = urllib.request.Request(self.url)
        if size:
            request.add_header("Range", f"bytes={size}-")
            if self._validator:
                request.add_header("If-Range", self._validator)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                self._receive(answer, size)
        except urllib.error.HTTPError as error:
            if error.code != 416 or not size:
                raise
            # There is nothing behind the part: it is complete, or of another version.
            if error.headers.get("Content-Range") != f"bytes */{size}":
                self.partial.unlink()
                raise _CutError("the file on the server has become shorter") from error
            self.resumed = True

    def _receive(self, answer: http.client.HTTPResponse, size: int) -> None:
        position = 0
        if answer.status == 206:
            if not (answer.headers.get("Content-Range") or "").startswith(f"bytes {size}-"):
                self.partial.unlink()
                raise _CutError("the server sent another part than it was asked for")
            position, self.resumed = size, True
        self._validator = _validator(answer)
        length = answer.headers.get("Content-Length")
        missing = int(length) if length else None
        free = shutil.disk_usage(self.partial.parent).free + size - position
        if missing is not None and missing > free:
            raise ModelError(
                f"{self.url}: {missing / 1e6:.1f} MB are to be downloaded, and the disk of "
                f"{self.partial.parent} has only {free / 1e6:.1f} MB left. Free some space."
            )
        received = 0
        with self.partial.open("ab" if position else "wb") as file:
            while part := answer.read1(_CHUNK):
                file.write(part)
                received += len(part)
        if missing is not None and received < missing:
            raise _CutError(
                f"the connection ended after {position + received} of {position + missing} bytes"
            )

    def _failure(self, error: Exception, tries: int) -> str:
        tried = f" after {tries} tries" if tries > 1 else ""
        kept = self._size()
        rest = f" {kept / 1e6:.1f} MB are kept, and the next run goes on there." if kept else ""
        return (
            f"{self.url}: the download failed{tried}: {error}. Check the address and rerun.{rest}"
        )


def _validator(answer: http.client.HTTPResponse) -> str:
    """Returns what ``If-Range`` may have (RFC 9110, 13.1.5): a strong entity tag, or a date."""
    tag = answer.headers.get("ETag") or ""
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified") or ""


def _passes(error: Exception) -> bool:
    """Whether it makes sense to try again."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in _BUSY
    reason = getattr(error, "reason", None)  # of a URLError
    if isinstance(error, ValueError) or isinstance(reason, str | ssl.SSLCertVerificationError):
        return False  # no URL, a protocol that does not exist, or a server that is not trusted
    return getattr(error, "errno", None) not in _FULL


def _wait(error: Exception, tries: int) -> float:
    wait = BACKOFF * 2 ** (tries - 1)
    if isinstance(error, urllib.error.HTTPError):
        with suppress(ValueError):  # it may also be a date
            wait = max(wait, float(error.headers.get("Retry-After") or 0))
    return min(wait, LONGEST_WAIT)
