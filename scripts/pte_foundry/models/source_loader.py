"""Imports of the user's own modules: always from their source, never from compiled files.

Python takes a compiled file for current if it notes the date, in seconds, and the size of the
source. A helper that is edited twice in one second, or restored with its old date, would run as it
was before, under the digest of what it is now.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from pte_foundry.errors import ModelError
from pte_foundry.installed import is_site
from pte_foundry.lock import LIBRARY


class SourceLoader(SourceFileLoader):
    """Compiles a source whenever it is loaded, and writes no compiled file beside it."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class _Finder:
    """Finds what is beside models, and has all sources of users loaded by SourceLoader.

    Only the names that a model's files import are found beside it. ``sys.path`` would offer all of
    its files to everybody: transformers, for one, would take a model called timm.py for timm.
    """

    def __init__(self) -> None:
        self.folders: dict[str, list[str]] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None and name in self.folders:
            spec = PathFinder.find_spec(name, [*sys.path, *self.folders[name]], target)
            if spec is not None and spec.loader is None:
                # A namespace package would look for its folders again, in sys.path.
                spec.submodule_search_locations = list(spec.submodule_search_locations)
        else:
            others = (finder for finder in sys.meta_path if finder is not self)
            found = (finder.find_spec(name, path, target) for finder in others)
            spec = next((spec for spec in found if spec is not None), None)
        if spec and type(spec.loader) is SourceFileLoader and is_of_a_user(spec.origin):
            spec.loader = SourceLoader(name, spec.origin)
        return spec


_FINDER = _Finder()


def is_of_a_user(file: str) -> bool:
    """Returns whether a source is neither of Python, nor of a package, nor of this library."""
    if file.startswith("<"):  # <string>, <frozen importlib._bootstrap>
        return False
    installed = (sys.prefix, sys.base_prefix, str(LIBRARY), *filter(is_site, sys.path))
    return not any(file.startswith(f"{folder}/") for folder in installed)


def make_importable(names: Iterable[str], folders: Sequence[str]) -> None:
    """Lets this process import modules and packages from folders; ``sys.path`` goes first.

    What an earlier model has imported by these names is forgotten.
    """
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    for name in names:
        _FINDER.folders[name] = list(folders)
        for loaded in [each for each in sys.modules if f"{each}.".startswith(f"{name}.")]:
            del sys.modules[loaded]
    PathFinder.invalidate_caches()


def check_loaded(checked: set[str], covered: Iterable[Path], folders: Sequence[str]) -> None:
    """Checks that all sources of the user that were loaded are among those that planning knows.

    Names can be hidden from it in more ways than it can see: in a pickle, or behind an alias.

    Args:
        checked: names of the modules that do not count; those that were looked at are added.
        covered: files that are in the digests of the model's code.
        folders: the model's folder and the project's.

    Raises:
        ModelError: naming a module that is not, without the model's file.
    """
    known = {os.path.abspath(file) for file in covered}
    places = [folder for folder in (*folders, *sys.path) if folder and not is_site(folder)]
    loaded = sys.modules.keys() - checked
    for name in sorted(loaded):
        file = getattr(sys.modules[name], "__file__", None)
        if not isinstance(file, str) or os.path.abspath(file) in known or not is_of_a_user(file):
            continue
        if any(os.path.abspath(file).startswith(f"{place}/") for place in places):
            raise ModelError(
                f"imported {name} ({file}) in a way that its text does not show, so a build would "
                "miss a change of it; import it by its name, or add it to the model's `imports`"
            )
    checked |= loaded
