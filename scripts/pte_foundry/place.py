"""Where the results of a run are: in a folder of this disk.

:class:`pte_foundry.upstream.snakemake_storage.Storage` has the same methods, for results in a
bucket. Files have the same names in both: ``results/summary.json``, ``logs/report.log``.
"""

from __future__ import annotations

import os
from pathlib import Path

from pte_foundry.files import seen_from


class Folder:
    """A folder with results.

    Attributes:
        base: what names start from: the prefix of a Snakemake module, or the current folder.
    """

    stored = False

    def __init__(self, base: Path = Path()) -> None:
        self.base = base

    def name(self, file: object) -> str:
        """Returns the name of a file of a rule or job, given as Snakemake has it."""
        return seen_from(self.base, Path(str(file)))

    def asked(self, target: str) -> str:
        """Returns the name of a file that a run is asked for, as the command line has it."""
        return Path(os.path.relpath(target, self.base)).as_posix()

    def target_of(self, name: str) -> str:
        """Returns what a run is to be asked for, to make a file."""
        return os.fspath(self.base / name)

    def file(self, name: str) -> str:
        """Returns a file as Snakemake has it."""
        return os.fspath(self.base / name)

    def exists(self, name: str) -> bool:
        return (self.base / name).exists()

    def size(self, name: str) -> int | None:
        """Returns the bytes of a file, or None if it does not exist."""
        path = self.base / name
        return path.stat().st_size if path.is_file() else None

    def path(self, name: str) -> Path:
        """Returns the path of a file, to read it."""
        return self.base / name

    def target(self, name: str) -> Path:
        """Returns the path of a file, to write it."""
        return self.base / name

    def shown(self, name: str) -> str:
        """Returns how messages name a file."""
        return self.file(name)

    def address(self, name: str) -> str:
        """Returns where a file or folder is, for people, seen from the folder that builds."""
        return self.file(name)

    def remove(self, name: str) -> None:
        """Removes a file, if it exists."""
        (self.base / name).unlink(missing_ok=True)
