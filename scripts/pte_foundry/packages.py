"""Files of installed Python packages, for the checks of a configuration and for fetching."""

from functools import cache
from importlib import metadata
from pathlib import Path

from pte_foundry.errors import ModelError
from pte_foundry.findings import did_you_mean, listed


class PackagedFileError(ModelError):
    """A package has no such file, or is not installed."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"{problem}. Fix: {fix}")
        self.problem, self.fix = problem, fix


def how_to_install(what: str) -> str:
    """Return how to add a package that the lock does not have, for a message."""
    return (
        f"add {what} to a file extra.in, and run `make environment EXTRA=PATH_OF_extra.in` in the "
        "clone of pte-foundry"
    )


def packaged_file(package: str, file: str) -> Path:
    """Return the path of a file of an installed package.

    Only files in the package's own list of files (its RECORD) are found, so ``file`` cannot lead
    out of the package.

    Args:
        package: name of the distribution.
        file: path in the list of files, or the end of that path, from a ``/`` on, if only one file
            has it. An exact path takes precedence.

    Raises:
        PackagedFileError: the package is not installed, or no file or several files match.
    """
    try:
        files = _files(package)
    except metadata.PackageNotFoundError:
        known = {name for d in metadata.distributions() if (name := d.metadata["Name"])}
        fix = did_you_mean(package, known, how_to_install(package))
        raise PackagedFileError(f"the package {package} is not installed", fix) from None
    matches = [file] if file in files else [path for path in files if path.endswith(f"/{file}")]
    if not matches:
        fix = did_you_mean(file, files, f"see `pip show --files {package}`")
        raise PackagedFileError(f"the package {package} has no file {file}", fix)
    if len(matches) > 1:
        fix = f"write the whole path: {listed(sorted(matches)[:4])}"
        raise PackagedFileError(f"several files of {package} match {file}", fix)
    return Path(files[matches[0]].locate())


def packaged_folder(package: str, folder: str) -> Path:
    """Return the path of a folder of an installed package, like :func:`packaged_file`.

    Raises:
        PackagedFileError: the package is not installed, or has no file in such a folder.
    """
    try:
        files = _files(package)
    except metadata.PackageNotFoundError:
        packaged_file(package, folder)  # tells that it is not installed
        raise
    inside = f"{folder.strip('/')}/"
    found = next((path for path in files if path.startswith(inside)), None)
    if found is None:
        folders = sorted({Path(path).parent.as_posix() for path in files})
        fix = did_you_mean(folder, folders, f"see `pip show --files {package}`")
        raise PackagedFileError(f"the package {package} has no folder {folder}", fix)
    depth = found[len(inside) :].count("/")
    return Path(files[found].locate()).parents[depth]


@cache
def _files(package: str) -> dict[str, metadata.PackagePath]:
    return {entry.as_posix(): entry for entry in metadata.distribution(package).files or []}
