"""The last build in a folder: its options, to build once more, and where its results are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pte_foundry.canonical_json import canonical
from pte_foundry.errors import DamagedError
from pte_foundry.files import read_json, write_json

STORE = Path(".snakemake/pte_foundry/options.json")


def keep_options(
    folder: Path,
    snakefile: Path,
    configfiles: Sequence[Path],
    config: Mapping[str, Any],
    results: str = "results",
) -> None:
    """Keeps the options of a build, and where its results are.

    Args:
        folder: where it builds.
        snakefile: the Snakefile that was started.
        configfiles: the value of ``--configfile``.
        config: the value of ``--config``.
        results: the folder of results, relative to ``folder``, or an address in a storage.
    """
    options = [] if snakefile.parent == folder else ["--snakefile", str(snakefile)]
    if configfiles:
        options += ["--configfile", *map(str, configfiles)]
    if config:
        options += ["--config", *(f"{key}={_text(value)}" for key, value in config.items())]
    write_json(folder / STORE, {"options": options, "results": results})


def build_options(folder: Path) -> list[str]:
    """Returns the options of the last build in a folder; none if they are not known."""
    return _kept(folder).get("options", [])


def last_results(folder: Path = Path()) -> str:
    """Returns where the results of the last build in a folder are, as :func:`keep_options` has it.

    A Snakemake module may put a folder before ``results``; an address has ``://``.
    """
    return _kept(folder).get("results", "results")


def folder_of_build(results: Path) -> Path:
    """Returns the folder in which a build made a folder of results; by default the one above."""
    for folder in results.parents:
        kept = _kept(folder).get("results", "")
        if kept and results.absolute() == (folder / kept).absolute():
            return folder
    return results.parent


def _kept(folder: Path) -> Mapping[str, Any]:
    try:
        return read_json(folder / STORE)
    except DamagedError:
        return {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value)
