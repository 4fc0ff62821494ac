"""Removes the locks that a killed Snakemake has left in a folder.

Stands against: snakemake 9.27.1
Uses: the names of ``FilePersistence._write_locks`` (``persistence/file.py``). The documented way,
    ``snakemake --unlock``, reads the configuration first, so that an error in it hides itself.
Remove when: ``snakemake --unlock`` needs no configuration.
"""

import re
from pathlib import Path

LOCKS = Path(".snakemake/locks")

_NAME = re.compile(r"\d+\.(input|output)\.lock")


def locks(folder: Path) -> list[Path]:
    """Returns the locks of Snakemakes in a folder, of running ones as well."""
    return sorted(path for path in (folder / LOCKS).glob("*") if _NAME.fullmatch(path.name))


def remove_locks(folder: Path) -> None:
    """Removes the locks of a folder in which no Snakemake runs."""
    for path in locks(folder):
        path.unlink(missing_ok=True)
