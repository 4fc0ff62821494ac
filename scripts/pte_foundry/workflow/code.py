"""The source files a stage depends on, and fingerprints that change when their meaning does.

A stage's code is an input like any other. Its files come from the import graph of the library; what
a model imports comes from :mod:`pte_foundry.models.imports`. A fingerprint covers a syntax tree
without docstrings, so comments and formatting do not count.
"""

import platform
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import grimp

from pte_foundry.installed import differences
from pte_foundry.lock import LIBRARY, locked_versions
from pte_foundry.models.source_code import fingerprint

PACKAGE = LIBRARY.name
ROOT = LIBRARY.parent


@cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph(PACKAGE, cache_dir=None)


def command_of(stage: str) -> str:
    """Returns the module that runs a stage: ``python -m <module>``."""
    return f"{PACKAGE}.steps.{stage}"


def entry(stage: str) -> Path:
    """Returns the file of the command that runs a stage."""
    return _file(command_of(stage))


def closure(*modules: str) -> list[Path]:
    """Returns the files of the library that these modules can import, themselves included, sorted.

    Importing ``a.b`` runs ``a/__init__.py`` too, so the packages on the way belong to it. So do a
    module's templates and styles, in the folder ``<module>_assets`` next to it.
    """
    graph = _graph()
    waiting = list(modules)
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        waiting += graph.find_modules_directly_imported_by(module)
        parent = module.rpartition(".")[0]
        waiting += [parent] if parent else []
    files = {_file(module) for module in seen}
    assets = {asset for file in files for asset in file.parent.glob(f"{file.stem}_assets/*")}
    return sorted(files | assets)


def _file(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def contents(sources: Iterable[Path], lock: Path) -> dict[str, str]:
    """Returns what a stage's code consists of: fingerprints of files, and versions.

    Args:
        sources: files of the library.
        lock: the lock file; only names and versions count, because the two Linux builds of torch
            differ in their digests and give the same bytes.
    """
    found = dict(_environment(lock))
    for source in sources:
        name = source.relative_to(ROOT).as_posix() if source.is_relative_to(ROOT) else source.name
        found[name] = fingerprint(source)
    return found


@cache
def _environment(lock: Path) -> dict[str, str]:
    found = {f"{name} in the lock": version for name, version in locked_versions(lock).items()}
    found |= {f"{name} in the environment": there for name, there in differences(lock).items()}
    return found | {"Python": platform.python_version()}
