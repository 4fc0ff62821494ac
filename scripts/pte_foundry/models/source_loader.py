"""Imports of the user's own modules: always from their source, never from compiled files.

Python takes a compiled file for current if it notes the date, in seconds, and the size of the
source. A helper that is edited twice in one second, or restored with its old date, would run as it
was before, under the digest of what it is now.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType

from pte_foundry.installed import is_site
from pte_foundry.lock import LIBRARY


class SourceLoader(SourceFileLoader):
    """Compiles a source whenever it is loaded, and writes no compiled file beside it."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class _Finder:
    """Finds what the other finders find, and has sources of users loaded by SourceLoader."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                if type(spec.loader) is SourceFileLoader and _is_of_a_user(spec.origin):
                    spec.loader = SourceLoader(name, spec.origin)
                return spec
        return None


def _is_of_a_user(file: str) -> bool:
    installed = (sys.prefix, sys.base_prefix, str(LIBRARY), *filter(is_site, sys.path))
    return not any(file.startswith(f"{folder}/") for folder in installed)


def make_importable(folders: Iterable[str]) -> None:
    """Lets this process import the modules in folders; what it can import already goes first."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    sys.path += [folder for folder in folders if folder not in sys.path]
    PathFinder.invalidate_caches()
