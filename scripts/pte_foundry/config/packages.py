"""Finding a file inside an installed Python package."""

from functools import cache
from importlib import metadata

from pte_foundry.errors import ConfigError
from pte_foundry.findings import did_you_mean, listed


def check_packaged(package: str, file: str) -> None:
    """Check that exactly one file of the installed distribution ``package`` is meant by ``file``.

    ``file`` is the path in the distribution's own list of files (its RECORD), or the end of it.
    Raises ``ConfigError`` with the problem and, after a semicolon, the fix.
    """
    try:
        files = _files(package)
    except metadata.PackageNotFoundError:
        known = {name for d in metadata.distributions() if (name := d.metadata["Name"])}
        fix = did_you_mean(package, known, f"install it: pip install {package}")
        raise ConfigError(f"the package {package} is not installed; {fix}") from None
    matches = [f for f in files if f == file] or [f for f in files if f.endswith(f"/{file}")]
    if not matches:
        fix = did_you_mean(file, files, f"see `pip show --files {package}`")
        raise ConfigError(f"the package {package} has no such file; {fix}")
    if len(matches) > 1:
        several = listed(sorted(matches)[:4])
        raise ConfigError(f"several files of {package} end so; give the whole path: {several}")


@cache
def _files(package: str) -> list[str]:
    return [entry.as_posix() for entry in metadata.distribution(package).files or []]
