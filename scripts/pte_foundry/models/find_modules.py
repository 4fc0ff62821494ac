"""Where modules are, found without importing the packages that they are in."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES, BuiltinImporter, FrozenImporter, PathFinder
from pathlib import Path
from typing import NamedTuple

from pte_foundry.installed import is_site, owner

# Finders of others that stand in sys.meta_path of a process that plans or tests.
_NO_FINDERS = ("_distutils_hack", "_pytest", "importlib", "_frozen_importlib", "pte_foundry")
_BUILT = ("results", "logs", "benchmarks")


class Module(NamedTuple):
    """Where a module is: its file, if it has one, and the folders of its modules, if it has any."""

    file: Path | None
    folders: list[str] | None

    def is_within(self, folders: Sequence[str]) -> bool:
        """Whether it, or a part of it, is directly in one of these folders."""
        places = [self.file.parent.parent, self.file.parent] if self.file else []
        places += [Path(folder).parent for folder in self.folders or ()]
        return not {str(place) for place in places}.isdisjoint(folders)


def find(module: str, path: Sequence[str]) -> Module | None:
    """Finds one module in these folders, without importing the packages that it is in."""
    within, _, last = module.rpartition(".")
    if not within and any(finder.find_spec(last) for finder in (BuiltinImporter, FrozenImporter)):
        return Module(None, None)
    # By its last name: by the whole one, a namespace package looks for its parent in sys.modules.
    spec = PathFinder.find_spec(last, path)
    for finder in sys.meta_path if spec is None else ():  # those of editable installs
        kind = finder if isinstance(finder, type) else type(finder)
        if not kind.__module__.startswith(_NO_FINDERS):
            spec = spec or finder.find_spec(module, path if within else None)
    if spec is None:
        return None
    folders = spec.submodule_search_locations
    file = Path(spec.origin) if spec.origin and spec.has_location else None
    return Module(file, None if folders is None else list(folders))


@cache
def kind_of(file: Path, folders: tuple[str, ...]) -> str:
    """``package``: of an installed one; ``standard``: of Python itself; ``source``: any other."""
    if any(is_site(folder) and file.is_relative_to(folder) for folder in folders):
        return "source" if owner(file, folders) is None else "package"
    paths = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
    return "standard" if any(file.is_relative_to(path) for path in paths) else "source"


def modules_in(folders: Sequence[str]) -> Iterator[str]:
    """The modules directly in a package, all of which ``import *`` may import."""
    for folder in filter(Path.is_dir, map(Path, folders)):
        for path in sorted(folder.iterdir()):
            if path.suffix == ".py" or (path / "__init__.py").is_file():
                yield path.stem


def files_in(folder: Path, modules: bool, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The files of a package: with ``modules`` all of them, otherwise its data files.

    Hidden files, what Python compiles and what a build writes do not belong to it.
    """
    real = folder.resolve()
    if real in above:  # a link to a folder that it is in
        return
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith((".", "__pycache__")) or path.suffix in (".pyc", ".pyi")
        if hidden or path.absolute() in (Path.cwd() / name for name in _BUILT):
            continue
        if path.is_dir():
            if modules or not (path / "__init__.py").exists():
                yield from files_in(path, modules, (*above, real))
        elif path.is_file() and (modules or not path.name.endswith((".py", *EXTENSION_SUFFIXES))):
            yield path
