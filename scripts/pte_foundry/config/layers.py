"""Which config files a build reads, and what the paths in them are relative to.

A config stands alone, or ``extends`` another one, which lies underneath. Snakemake merges the files
that are named on the command line, and knows nothing of those that they extend.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pte_foundry.config import yamlfiles
from pte_foundry.config.yamlfiles import ConfigFile
from pte_foundry.findings import Finding, KeyPath
from pte_foundry.lock import LIBRARY

EXTENDS, DEFAULT = "extends", "default"
SECTIONS = ("models", "recipes", "targets", "builds")
"""What a config must have."""


def extends_default(data: Mapping[str, Any]) -> bool:
    """Whether a config extends the default one without saying so: it cannot stand alone."""
    return EXTENDS not in data and not data.keys() >= set(SECTIONS)


def clone_of(folder: Path) -> Path:
    """Returns the clone that a folder is, or else the one of this library."""
    return folder if (folder / "scripts" / LIBRARY.name).is_dir() else LIBRARY.parents[1]


@dataclass(frozen=True)
class Layers:
    """A merged configuration, and the files that it is merged from, the lowest first.

    Attributes:
        data: the configuration.
        files: the files.
        findings: files that are extended and cannot be.
        root: the clone, in which paths are found that are nowhere else.
        others: folders that paths are relative to which are in no file.
    """

    data: Any
    files: Sequence[ConfigFile]
    findings: Sequence[Finding]
    root: Path
    others: Sequence[Path] = field(default=())

    def located(self, finding: Finding) -> Finding:
        """Adds the file and line to a finding."""
        return yamlfiles.located(finding, self.data, self.files)

    def folder(self, key: KeyPath, path: str) -> Path:
        """Returns the folder that a path in the configuration is relative to.

        It is that of the file which gives the value. A file in a folder ``config`` can also name
        paths from the folder above, as is usual in Snakemake, and every file those of the clone.
        Where nothing exists, it is the first of these.

        Args:
            key: the key of the path.
            path: its value.
        """
        places = list(self._folders(key))
        return next((folder for folder in places if (folder / path).exists()), places[0])

    def project(self, key: KeyPath, path: str) -> Path:
        """Returns the project's folder of a path: that of its config file, or the one above if that
        folder is called ``config``."""
        return _project(self.folder(key, path))

    def _folders(self, key: KeyPath) -> Iterator[Path]:
        file = yamlfiles.origin(key, self.data, self.files)
        for folder in [file.folder] if file else self.others:
            yield from dict.fromkeys((folder, _project(folder)))
        yield self.root


def _project(folder: Path) -> Path:
    return folder.parent if folder.name == "config" else folder


def layered(
    data: Any,
    files: Iterable[Path],
    root: Path,
    default: Callable[[], Path] | None = None,
    others: Sequence[Path] = (),
) -> Layers:
    """Reads the files of a configuration, and lays it over those that it extends.

    Args:
        data: the configuration as Snakemake has merged it.
        files: the files that it was merged from, the lowest first.
        root: the clone.
        default: returns the path of the default config; None: it is that of the clone.
        others: folders that paths are relative to which are in none of the files.
    """
    given = [_unnested(yamlfiles.read(Path(file), *others, root), data) for file in files]
    if default is None:
        default = partial(root.joinpath, "config/config.yaml")
    stack = _Stack((*others, root), default, given)
    for file in given:
        if EXTENDS in file.data:
            stack.extend(file.data[EXTENDS], file.folder)
    mapping = data if isinstance(data, Mapping) else {}
    if not any(EXTENDS in file.data for file in given):
        if EXTENDS in mapping:
            stack.extend(mapping[EXTENDS], (*others, root)[0])
        elif isinstance(data, Mapping) and extends_default(data):
            stack.extend(DEFAULT, root, optional=True)
    if stack.below:
        data = yamlfiles.merged([*(file.data for file in stack.below), mapping])
    return Layers(data, [*stack.below, *given], stack.findings, root, (*others, root))


class _Stack:
    """The files that lie under those that are given, the lowest first."""

    def __init__(
        self, roots: Sequence[Path], default: Callable[[], Path], given: Iterable[ConfigFile]
    ) -> None:
        self.below: list[ConfigFile] = []
        self.findings: list[Finding] = []
        self._roots, self._default = roots, default
        self._seen = {file.path.resolve() for file in given}

    def extend(self, name: Any, folder: Path, optional: bool = False) -> None:
        if not isinstance(name, str):
            return  # null: it stands alone; anything else is refused by its type
        path = self._default() if name == DEFAULT else Path(os.path.normpath(folder / name))
        if path.resolve() in self._seen:
            return
        self._seen.add(path.resolve())
        if not path.is_file():
            problem = f"there is no such config file: {path}"
            fix = "check the path; it is relative to this config file"
            allowed = f"{DEFAULT}, or the path of a config file"
            if not optional:
                self.findings.append(Finding((EXTENDS,), problem, allowed, fix, name))
            return
        file = yamlfiles.read(path, *self._roots)
        self.extend(file.data.get(EXTENDS), file.folder)
        self.below.append(file)


def _unnested(file: ConfigFile, data: Any) -> ConfigFile:
    """Returns the part of a file that is the configuration: of a Snakemake module, it may be one
    key of the other workflow's config."""
    if not isinstance(data, Mapping) or file.data.keys() & data.keys():
        return file
    for key, value in file.data.items():
        if isinstance(value, dict) and value and value.keys() <= data.keys():
            lines = {path[1:]: line for path, line in file.lines.items() if path[:1] == (key,)}
            return ConfigFile(file.shown, file.path, value, lines, file.findings)
    return file
