"""Files of a program's inputs and outputs: ``.npy``, ``.npz``, folders of ``.npy``."""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pte_foundry.errors import InputError, ProgramError
from pte_foundry.files import replacing

# Names in a program are untrusted; a file named so must stay in its folder.
_SAFE = re.compile(r"[A-Za-z0-9_][\w.\-]*")


def read_array(path: Path) -> np.ndarray:
    """Read a ``.npy``.

    Raises:
        InputError: the file is missing, of another format, or contains Python objects.
    """
    read = _load(path)
    if not isinstance(read, np.ndarray):
        raise InputError(f"{path} is a .npz of several arrays, expected a .npy of one")
    return read


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a ``.npz`` by name.

    Raises:
        InputError: the file is missing, of another format, or contains Python objects.
    """
    read = _load(path)
    if isinstance(read, np.ndarray):
        raise InputError(f"{path} is a .npy of one array, expected a .npz of named ones")
    return read


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to a ``.npz``, or one ``.npy`` each to a folder if the path ends otherwise.

    Raises:
        ProgramError: a name cannot be a file's name.
    """
    if unsafe := [name for name in arrays if not _SAFE.fullmatch(name)]:
        raise ProgramError(f"{unsafe[0]!r} cannot be the name of a file")
    if path.suffix == ".npz":
        # np.savez takes the names as keyword arguments and reserves two of them.
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
        raise InputError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a file of arrays that numpy can read: {error}") from error
