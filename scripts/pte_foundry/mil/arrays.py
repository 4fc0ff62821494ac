"""Reads and writes the arrays that a program takes and gives: ``.npy``, ``.npz``, folders."""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pte_foundry.errors import InputError, ProgramError
from pte_foundry.files import replacing

# A name from a program becomes a file's name; it must not lead elsewhere.
_SAFE = re.compile(r"[A-Za-z0-9_][\w.\-]*")


def read_array(path: Path) -> np.ndarray:
    """Reads a ``.npy``. Raises InputError if it is none, or holds Python objects."""
    read = _load(path)
    if not isinstance(read, np.ndarray):
        raise InputError(f"{path} is a .npz of several arrays, a .npy of one is wanted")
    return read


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads a ``.npz``: arrays by name. Raises InputError if it is none."""
    read = _load(path)
    if isinstance(read, np.ndarray):
        raise InputError(f"{path} is a .npy of one array, a .npz of named ones is wanted")
    return read


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays into one ``.npz``, or as one ``.npy`` each into any other path, a folder.

    Raises:
        ProgramError: a name cannot be a file's name.
    """
    if unsafe := [name for name in arrays if not _SAFE.fullmatch(name)]:
        raise ProgramError(f"{unsafe[0]!r} cannot be the name of a file")
    if path.suffix == ".npz":
        # Not np.savez: it takes names as keywords, and two of them for itself.
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)
        return
    for name, array in arrays.items():
        with replacing(path / f"{name}.npy") as temporary:
            np.save(temporary, array, allow_pickle=False)


def _load(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    try:
        read = np.load(path, allow_pickle=False)
        return read if isinstance(read, np.ndarray) else dict(read)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} holds no arrays that numpy can read: {error}") from error
