"""The options of the last build in a folder: what a command needs to build there once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pte_foundry.canonical_json import canonical
from pte_foundry.errors import DamagedError
from pte_foundry.files import read_json, write_json

STORE = Path(".snakemake/pte_foundry/options.json")


def keep_options(
    folder: Path, snakefile: Path, configfiles: Sequence[Path], config: Mapping[str, Any]
) -> None:
    """Keeps the options of a build.

    Args:
        folder: where it builds.
        snakefile: the Snakefile that was started.
        configfiles: the value of ``--configfile``.
        config: the value of ``--config``.
    """
    options = [] if snakefile.parent == folder else ["--snakefile", str(snakefile)]
    if configfiles:
        options += ["--configfile", *map(str, configfiles)]
    if config:
        options += ["--config", *(f"{key}={_text(value)}" for key, value in config.items())]
    write_json(folder / STORE, {"options": options})


def build_options(folder: Path) -> list[str]:
    """Returns the options of the last build in a folder; none if they are not known."""
    try:
        return read_json(folder / STORE)["options"]
    except (DamagedError, KeyError):
        return []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value)
