"""A target after ``--configfile FILE``, which Snakemake takes for a second config file.

Stands against: snakemake 9.27.1
Repairs: ``_load_configfile`` (``common/configfile.py``), which ends in a traceback of 40 lines:
    ``FileNotFoundError: 'all'`` for a target that does not exist yet, ``UnicodeDecodeError`` for an
    artifact.
Remove when: ``--configfile`` takes one file, or Snakemake tells what it has taken for one.
"""

from functools import wraps
from pathlib import Path
from typing import Any

from pte_foundry.upstream.versions import require

SUFFIXES = (".yaml", ".yml", ".json")


def explain_config_files() -> None:
    """Makes Snakemake tell that a file is no config file, and that targets come after ``--``."""
    from snakemake.common import configfile
    from snakemake_interface_common.exceptions import WorkflowError

    upstream = require(configfile, "_load_configfile", "configpath_or_obj filetype", patch=__name__)
    if hasattr(upstream, "__wrapped__"):
        return

    @wraps(upstream)
    def load(configpath_or_obj: Any, filetype: str = "Config") -> Any:
        path = configpath_or_obj if isinstance(configpath_or_obj, str | Path) else None
        try:
            found = upstream(configpath_or_obj, filetype)
        except (OSError, UnicodeDecodeError) as error:
            if path is None:
                raise
            raise WorkflowError(explanation(str(path), error)) from None
        if path is not None and isinstance(found, dict) and "checksum" in found:
            raise WorkflowError(explanation(str(path)))
        return found

    configfile._load_configfile = load


def explanation(path: str, error: Exception | None = None) -> str:
    """Returns what is wrong with a file that is no config file; ``error``: it cannot be read."""
    if error is None:
        reason = "is a result of a build"
    else:
        reason = f"cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}"
    text = f"the config file {path} {reason}."
    if error is None or not path.endswith(SUFFIXES):
        text += (
            " --configfile takes all that follows for config files. If this is a target, write --"
            f" before it: --configfile FILE -- {path}"
        )
    return text
