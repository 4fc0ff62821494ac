"""Which source files a step depends on, and the digest that says whether they changed in meaning.

A step's code is an input like any other. Its files are found from the import graph; the digest is
taken over their syntax trees without docstrings, so that comments and formatting do not count.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import grimp

PACKAGE = "scripts"


@cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph(PACKAGE, cache_dir=None)


def closure(step: str, root: Path) -> list[Path]:
    """The files under ``root`` that ``python -m scripts.<step>`` can import, sorted.

    Importing ``a.b`` runs ``a/__init__.py`` as well, so packages on the way are part of it, and so
    is what lies in their folders ``assets``.
    """
    graph = _graph()
    waiting = [f"{PACKAGE}.{step}", _main(step)]
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        waiting += graph.find_modules_directly_imported_by(module)
        parent = module.rpartition(".")[0]
        waiting += [parent] if parent else []
    files = {_file(module, root) for module in seen}
    # What a package draws or prints with lies in its folder `assets`.
    assets = {path for file in files for path in file.parent.glob("assets/*") if path.is_file()}
    return sorted(files | assets)


def entry(step: str, root: Path) -> Path:
    """The file that ``python -m scripts.<step>`` starts in."""
    return _file(_main(step), root)


def _main(step: str) -> str:
    main = f"{PACKAGE}.{step}.__main__"
    return main if main in _graph().modules else main.removesuffix(".__main__")


def _file(module: str, root: Path) -> Path:
    path = root.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _meaning(path: Path) -> str:
    if path.suffix != ".py":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    tree = ast.parse(path.read_bytes(), filename=str(path))
    _drop_docstrings(tree)
    return ast.dump(tree)


def _drop_docstrings(block: ast.AST) -> None:
    """Statements alone can hold a docstring, so this leaves out expressions: most of a tree."""
    match getattr(block, "body", None):
        case [ast.Expr(value=ast.Constant(value=str()) as docstring), *_]:
            docstring.value = ""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        for statement in getattr(block, name, ()):
            _drop_docstrings(statement)


@cache
def _requirements(lock: Path) -> str:
    lines = (line.split("#")[0].strip() for line in lock.read_text(encoding="utf-8").splitlines())
    return "\n".join(line for line in lines if line)


def digest(sources: Iterable[Path], lock: Path, root: Path) -> str:
    """Changes when the code or a locked version does; not when a comment or a folder does."""
    total = hashlib.sha256(_requirements(lock).encode())
    for source in sources:
        name = source.relative_to(root).as_posix() if source.is_relative_to(root) else source.name
        total.update(f"\n{name}\n{_meaning(source)}".encode())
    return total.hexdigest()
