"""What a model's file imports, followed through its helpers, without running any of it.

The file is an input of every step that runs it, and so is what it imports: files beside it, modules
of the project, packages on ``PYTHONPATH`` and editable installs by their files, other packages that
the lock does not pin by their version and files. What the lock pins is covered by the lock. The
search is that of the steps: their ``sys.path``, then the model's folder, then the project's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from pte_foundry.canonical_json import digest
from pte_foundry.installed import (
    Distribution,
    distributions,
    is_locked,
    owner,
    search_path,
)
from pte_foundry.models.find_modules import Module, files_in, find, kind_of, modules_in
from pte_foundry.models.source_code import Import, fingerprint, read_source


@dataclass
class Imports:
    """All that belongs to a model's file.

    Attributes:
        files: the file itself, and those that it imports, by their names in messages and digests:
            paths from where Python finds them, such as ``layers.py`` or ``company/blocks.py``.
        packages: installed packages that the lock does not pin, by name.
        libraries: modules of installed packages that a file imports at its top, with the names that
            it imports from them: what a fork server preloads.
        beside: names of modules and packages that are found beside the file or in the project only.
        problems: places that hide what they import, each a sentence with file and line.
        missing: declared names that nothing has.
    """

    files: dict[str, Path] = field(default_factory=dict)
    packages: dict[str, Distribution] = field(default_factory=dict)
    libraries: dict[str, set[str]] = field(default_factory=dict)
    beside: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def contents(self) -> dict[str, str]:
        """Returns a fingerprint of every file, and the version and digest of every package."""
        found = {name: fingerprint(file) for name, file in self.files.items()}
        for package in self.packages.values():
            found[f"package {package.name}"] = f"{package.version} {_digest(package)}"
        return dict(sorted(found.items()))

    def digest(self) -> str:
        """Returns one digest of :meth:`contents`."""
        return digest(self.contents())

    def listed(self, root: Path | None) -> dict[str, dict[str, str]]:
        """Returns where :meth:`contents` is: ``project`` (paths from ``root``), or ``elsewhere``.

        Of what is elsewhere the fingerprints are given, because paths of this machine are not.
        """
        inside = {name: path_from(root, file) for name, file in self.files.items()}
        return {
            "project": {name: path for name, path in inside.items() if path is not None},
            "elsewhere": {
                name: found for name, found in self.contents().items() if inside.get(name) is None
            },
        }


@cache
def _digest(package: Distribution) -> str:
    return package.digest()


def path_from(root: Path | None, file: Path) -> str | None:
    """Returns the path of a file from the project's folder; None if it is not in there."""
    if root is None:
        return None
    path = os.path.relpath(file, root)
    return None if path.startswith("..") else Path(path).as_posix()


def project_of(file: Path, module: str) -> Path | None:
    """Returns the project's folder; None if the model's file is not in it.

    Args:
        file: the model's file.
        module: its path in the project (:func:`path_from`), or what the config says.
    """
    parts, inside = file.absolute().parts, Path(module).parts
    return Path(*parts[: -len(inside)]) if parts[-len(inside) :] == inside != parts else None


def model_paths(file: Path, root: Path | None) -> list[str]:
    """Returns what a model can import beside what all steps can: its folder, then its project.

    Args:
        file: the model's file.
        root: the project's folder; None if the file is not in it.
    """
    folders = [file.parent] if root is None else [file.parent, root]
    return list(map(os.path.abspath, folders))


def follow(file: Path, root: Path | None = None, declared: Sequence[str] | None = None) -> Imports:
    """Returns what a model's file imports.

    Args:
        file: the model's file, which need not be valid.
        root: the project's folder, in which modules are found if the file is in it as well.
        declared: the model's ``imports`` in the config: what is imported by computed names. None:
            nothing is declared, so such imports are problems.
    """
    walk = _Walk(file, root)
    walk.add(file.name, file, "")
    for name in declared or ():
        walk.declare(name)
    walk.run()
    if declared is not None:
        walk.found.problems.clear()
    return walk.found


class _Walk:
    def __init__(self, file: Path, root: Path | None) -> None:
        self.found = Imports()
        self._root = root
        self._folders = search_path()
        project = None if path_from(root, file) is None else root
        self._extra = model_paths(file, project)
        self._path = [*self._folders, *self._extra]
        self._waiting: list[tuple[str, Path, str]] = []
        self._seen: set[Path] = set()
        self._visited: set[str] = set()

    def run(self) -> None:
        while self._waiting:
            self._read(*self._waiting.pop())

    def add(self, name: str, file: Path, package: str) -> None:
        """Adds a file; ``package`` is the dotted name that its relative imports start from."""
        absolute = file.absolute()
        if absolute in self._seen:
            return
        self._seen.add(absolute)
        taken = self.found.files.get(name)
        self.found.files[f"{name} (imported)" if taken else name] = file
        if file.suffix == ".py":
            self._waiting.append((name, file, package))

    def declare(self, name: str) -> None:
        """Adds a declared file, folder, or package with all of its modules."""
        path = (self._root or Path()) / name
        if "/" in name or name.endswith(".py"):
            if path.is_file():
                self.add(name, path, "")
            elif path.is_dir():
                for file in files_in(path, modules=True):
                    self.add(f"{name.rstrip('/')}/{file.relative_to(path).as_posix()}", file, "")
            else:
                self.found.missing.append(name)
        elif (found := self._find(name)) is None:
            self.found.missing.append(name)
        elif found.file is None or kind_of(found.file, self._folders) == "source":
            for folder in map(Path, found.folders or ()):
                for file in files_in(folder, modules=True):
                    inside = file.relative_to(folder)
                    parents = [*name.split("."), *inside.parent.parts]
                    self.add("/".join([*parents, inside.name]), file, ".".join(parents))

    def _read(self, name: str, file: Path, package: str) -> None:
        try:
            source = read_source(file)
        except (OSError, SyntaxError, ValueError):
            return  # the check of the module, or the step that runs it, tells
        own = not name.startswith("pte_foundry/")
        for each in source.obscure if own else ():
            where = f"{path_from(self._root, file) or file}:{each.line}"
            self.found.problems.append(f"{where} {each.problem}: `{each.text}`")
        for each in source.imports:
            self._import(each, package)

    def _import(self, statement: Import, package: str) -> None:
        module = statement.module
        if statement.level:
            above = package.split(".")[: 1 - statement.level or None] if package else []
            if not any(above):
                return  # a file that is in no package has no relative imports
            module = ".".join(filter(None, [*above, module]))
        found = self._find(module)
        if found is None:
            return  # for another system, or handled by the code
        if statement.top and found.file and kind_of(found.file, self._folders) == "package":
            self.found.libraries.setdefault(module, set()).update(set(statement.names) - {"*"})
        elif found.folders is not None:
            for name in statement.names:
                for submodule in modules_in(found.folders) if name == "*" else (name,):
                    self._find(f"{module}.{submodule}")

    def _find(self, module: str) -> Module | None:
        """Finds a module as importing it would, and adds it and the packages that it is in.

        Returns None if it does not exist, and for a module of an installed package that package:
        it counts as a whole.
        """
        found, path = None, self._path
        parts = module.split(".")
        for depth in range(1, len(parts) + 1):
            name = ".".join(parts[:depth])
            found = find(name, path)
            if found is None:
                return None
            if depth == 1 and found.is_within(self._extra):
                self.found.beside.add(name)
            if found.file is None and found.folders is None:
                return found  # built into Python
            if found.file is not None and not self._visit(name, found):
                return found
            if found.folders is None:
                return found if depth == len(parts) else None
            path = found.folders
        return found

    def _visit(self, name: str, found: Module) -> bool:
        """Adds a module; returns whether it counts by its file, and so do modules within it."""
        kind = kind_of(found.file, self._folders)
        if kind == "source" and name not in self._visited:
            self._add_module(name, found)
        elif kind == "package":
            self._add_package(owner(found.file, self._folders))
        self._visited.add(name)
        return kind == "source"

    def _add_module(self, module: str, found: Module) -> None:
        inside = module.split(".")
        if not found.file.is_file():  # in an archive, which counts as a whole
            archive = next((above for above in found.file.parents if above.is_file()), None)
            if archive is not None:
                self.add(archive.name, archive, "")
        elif found.folders is None:
            above = inside[:-1]
            self.add("/".join([*above, found.file.name]), found.file, ".".join(above))
        else:
            self.add("/".join([*inside, found.file.name]), found.file, module)
            for data in files_in(found.file.parent, modules=False):
                where = data.relative_to(found.file.parent).as_posix()
                self.add("/".join([*inside, where]), data, "")

    def _add_package(self, package: Distribution) -> None:
        """Adds a package that the lock does not pin, and those of that kind that it needs."""
        if package.name in self.found.packages or is_locked(package):
            return
        self.found.packages[package.name] = package
        known = distributions(self._folders)
        for name in sorted(package.requirements & known.keys()):
            self._add_package(known[name])
