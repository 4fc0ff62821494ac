"""The page of the last run, ``logs/run.html``: when, where, by what, and what it changed.

Results are the same whenever and wherever they are built, so none of this is in them. The summary
and the manifest of the build before are kept in ``results/previous``.
"""

from __future__ import annotations

import getpass
import platform
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pte_foundry.errors import DamagedError
from pte_foundry.files import read_json, replacing
from pte_foundry.workflow.failures import MANIFEST, SUMMARY

PREVIOUS = "results/previous"
PAGE = "logs/run.html"


@dataclass(frozen=True)
class Run:
    """A run that has begun.

    Attributes:
        folder: the folder that the paths of results start from.
        began: when, with a time zone.
        before: content of the files that are kept, by path, as the run found them.
    """

    folder: Path
    began: datetime
    before: Mapping[str, bytes]

    @classmethod
    def begin(cls, folder: Path) -> Run:
        """Remembers what the last run left."""
        return cls(folder, datetime.now().astimezone(), _kept(folder))

    def end(self, made_by: str, configs: Sequence[Path], *, failed: bool) -> None:
        """Keeps what the last run left, if this one changed it, and writes the page.

        Args:
            made_by: version and commit of pte-foundry.
            configs: the config files.
            failed: whether a job failed.
        """
        self._keep()
        new = self._read(SUMMARY)
        if new is None:
            return  # nothing to tell of
        from pte_foundry.report.comparison import compare
        from pte_foundry.report.run_page import render

        old = self._read(f"{PREVIOUS}/summary.json")
        changes = None
        if old is not None:
            manifests = (self._read(f"{PREVIOUS}/manifest.json"), self._read(MANIFEST))
            changes = compare(old, new, *manifests)
        page = render(self._facts(made_by, configs, failed), changes)
        with replacing(self.folder / PAGE) as temporary:
            temporary.write_text(page, encoding="utf-8")

    def _keep(self) -> None:
        found = self.before.get(SUMMARY)
        if found is None or found == _kept(self.folder).get(SUMMARY):
            return
        (self.folder / PREVIOUS / "manifest.json").unlink(missing_ok=True)
        for name, content in self.before.items():
            path = self.folder / PREVIOUS / Path(name).name
            with replacing(path) as temporary:
                temporary.write_bytes(content)

    def _read(self, name: str) -> Any:
        """The content of a file; None without one, or if it is damaged, which `verify` tells."""
        with suppress(DamagedError):
            return read_json(self.folder / name)
        return None

    def _facts(self, made_by: str, configs: Sequence[Path], failed: bool) -> dict[str, str]:
        ended = datetime.now().astimezone()
        seconds = round((ended - self.began).total_seconds())
        return {
            "began": self.began.isoformat(sep=" ", timespec="seconds"),
            "took": f"{seconds // 60} min {seconds % 60} s",
            "ended with": "failed jobs" if failed else "all jobs done",
            "made by": made_by,
            "config": ", ".join(map(str, configs)),
            "folder": str(self.folder.resolve()),
            "host": f"{socket.gethostname()}, {platform.platform()}",
            "user": _user(),
            "Python": sys.version.split()[0],
        }


def _kept(folder: Path) -> dict[str, bytes]:
    """The content of the files that are kept, by path, of those that exist."""
    contents = {}
    for name in (SUMMARY, MANIFEST):
        with suppress(OSError):
            contents[name] = (folder / name).read_bytes()
    return contents


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        return "unknown"
