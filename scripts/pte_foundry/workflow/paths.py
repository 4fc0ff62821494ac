"""Paths that cannot work, refused in one sentence before anything starts."""

import os
from pathlib import Path

from pte_foundry.errors import FoundryError


class PathError(FoundryError):
    """A path has characters that a tool on the way gives a meaning of its own."""


def check_folder(folder: Path, *, in_list: bool = False) -> None:
    """Checks the path of a clone or of a folder with results.

    Args:
        folder: the absolute path.
        in_list: whether it must go into a list of paths such as ``PYTHONPATH``.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise PathError(
            f"the path of the folder {str(folder)!r} is not UTF-8, which Snakemake cannot write "
            "into its records; rename the folder"
        ) from None
    if in_list and os.pathsep in str(folder):
        raise PathError(
            f"the path of the folder {str(folder)!r} has a {os.pathsep!r}, which separates paths "
            "in PYTHONPATH, so that no step would find its library; rename the folder"
        )


def literal(path: str) -> str:
    """Returns a path that a rule names.

    Raises:
        PathError: it has braces, or is not UTF-8.
    """
    if "{" in path or "}" in path:
        raise PathError(
            f"the path {path!r} has braces, which Snakemake takes for wildcards; rename the file "
            "or folder, or build in the folder of the clone (without --directory)"
        )
    check_folder(Path(path))
    return path
