"""The Python source of models, read without running it: what it imports, and what it means."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pte_foundry.files import sha256

# What imports by a name that only running the code tells, or from a place that only that tells.
_BY_NAME = frozenset(
    {
        "builtins.__import__",
        "importlib.__import__",
        "importlib.import_module",
        "pkgutil.resolve_name",
    }
)
"""With a constant as their first argument they are ordinary imports."""
_FROM_ANYWHERE = frozenset(
    {
        "builtins.exec",
        "imp.load_compiled",
        "imp.load_module",
        "imp.load_source",
        "importlib.machinery.SourceFileLoader",
        "importlib.machinery.SourcelessFileLoader",
        "importlib.util.spec_from_file_location",
        "runpy.run_module",
        "runpy.run_path",
        "site.addsitedir",
        "sys.meta_path",
        "sys.path_hooks",
        "torch.hub.load",
        "zipimport.zipimporter",
    }
)
_SEARCH = "changes where Python looks for modules"
_CHANGES = frozenset({"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"})


class Import(NamedTuple):
    """An import statement: ``from <level dots><module> import <names>``.

    ``names`` is empty for ``import <module>``. ``top`` is true outside of functions and branches.
    """

    module: str
    level: int = 0
    names: tuple[str, ...] = ()
    top: bool = False


class Obscure(NamedTuple):
    """A place in a source that imports what its text does not show."""

    line: int
    problem: str
    text: str


@dataclass
class SourceCode:
    """What a source imports, and where that cannot be told."""

    imports: list[Import] = field(default_factory=list)
    obscure: list[Obscure] = field(default_factory=list)
    exported: tuple[str, ...] = ()
    """The names in ``__all__``, if it is a literal."""


def read_source(file: Path) -> SourceCode:
    """Parses a source.

    Raises:
        OSError: it cannot be read.
        SyntaxError: it is not Python.
        ValueError: it contains null bytes.
    """
    return _parsed(file, _state(file))


def fingerprint(file: Path) -> str:
    """Returns a digest that changes when the meaning of a file does.

    Comments, docstrings and the layout of Python do not count, as in the digests of steps.
    """
    return _fingerprint(file, _state(file))


def _state(file: Path) -> tuple[int, ...]:
    found = file.stat()
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@cache
def _fingerprint(file: Path, state: tuple[int, ...]) -> str:
    if file.suffix == ".py":
        with suppress(SyntaxError, ValueError):  # the step that runs it tells
            tree = ast.parse(file.read_bytes(), filename=str(file))
            _drop_docstrings(tree)
            meaning = ast.dump(tree).encode("utf-8", "surrogatepass")
            return hashlib.sha256(meaning).hexdigest()
    return sha256(file)


def _drop_docstrings(block: ast.AST) -> None:
    """Empties the docstrings of statements; expressions, most of a tree, cannot hold any."""
    match getattr(block, "body", None):
        case [ast.Expr(value=ast.Constant(value=str()) as docstring), *_]:
            docstring.value = ""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        for statement in getattr(block, name, ()):
            _drop_docstrings(statement)


@cache
def _parsed(file: Path, state: tuple[int, ...]) -> SourceCode:
    text = file.read_bytes()
    tree = ast.parse(text, filename=str(file))
    found = SourceCode()
    nodes = list(_executed(tree))
    aliases = _aliases(nodes)
    direct: set[int] = set()
    top = set(map(id, tree.body))
    for node in nodes:
        match node:
            case ast.Import(names=names):
                made = [Import(name.name, top=id(node) in top) for name in names]
                found.imports += made
            case ast.ImportFrom(module=module, names=names, level=level):
                imported = tuple(name.name for name in names)
                found.imports.append(Import(module or "", level, imported, id(node) in top))
            case ast.Call(func=function) if _dotted(function, aliases) in _BY_NAME:
                if literal := _literal_import(node):
                    found.imports.append(literal)
                    direct.add(id(function))
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                found.exported = _texts(value)
    lines = text.splitlines()
    for node in nodes:
        if id(node) not in direct and (problem := _problem(node, aliases)):
            line = lines[node.lineno - 1].decode("utf-8", "replace").strip()
            found.obscure.append(Obscure(node.lineno, problem, line))
    found.obscure = list({each.line: each for each in reversed(found.obscure)}.values())[::-1]
    return found


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes, but those for type checkers and those that run in scripts only."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and _never(child.test):
            for statement in child.orelse:
                yield from _executed(statement)
        else:
            yield from _executed(child)


def _never(test: ast.expr) -> bool:
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return True
        case ast.Compare(
            left=ast.Name(id="__name__"),
            ops=[ast.Eq()],
            comparators=[ast.Constant(value="__main__")],
        ):
            return True
    return False


def _aliases(nodes: list[ast.AST]) -> dict[str, str]:
    """The dotted names that the names in a source stand for, by its imports."""
    found = {name: f"builtins.{name}" for name in ("__import__", "exec")}
    for node in nodes:
        match node:
            case ast.Import(names=names):
                for name in names:
                    bound = name.asname or name.name.partition(".")[0]
                    found[bound] = name.name if name.asname else bound
            case ast.ImportFrom(module=str() as module, names=names, level=0):
                found |= {name.asname or name.name: f"{module}.{name.name}" for name in names}
    return found


def _dotted(node: ast.AST, aliases: dict[str, str]) -> str:
    """The dotted name of an expression; empty if it is none."""
    match node:
        case ast.Name(id=name):
            return aliases.get(name, "")
        case ast.Attribute(value=value, attr=name):
            before = _dotted(value, aliases)
            return f"{before}.{name}" if before else ""
        case ast.Call(
            func=ast.Name(id="getattr"), args=[owner, ast.Constant(value=str() as name), *_]
        ):
            before = _dotted(owner, aliases)
            return f"{before}.{name}" if before else ""
    return ""


def _literal_import(call: ast.Call) -> Import | None:
    """An import by a function whose name is a constant."""
    given = {word.arg: word.value for word in call.keywords}
    name = call.args[0] if call.args else given.get("name")
    if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
        return None
    module = name.value.partition(":")[0]  # pkgutil.resolve_name("module:object")
    relative = module.lstrip(".")
    level = len(module) - len(relative)
    package = call.args[1] if len(call.args) > 1 else given.get("package")
    match package:
        case ast.Constant(value=str() as above) if level:
            parents = above.split(".")[: 1 - level or None]
            return Import(".".join(filter(None, [*parents, relative])))
        case ast.Name(id="__package__" | "__name__"):
            return Import(relative, level)
    return None if level else Import(module)


def _problem(node: ast.AST, aliases: dict[str, str]) -> str:
    """What an expression does that hides an import; empty if it does no such thing."""
    match node:
        case ast.keyword(arg="trust_remote_code", value=ast.Constant(value=True)):
            return "runs code of a repository"
        case ast.Name(id="__path__", ctx=ast.Store()):
            return _SEARCH
        case ast.Name() | ast.Attribute() | ast.Call():
            name = _dotted(node, aliases)
        case ast.Subscript(value=value, ctx=ast.Store() | ast.Del()):
            return _SEARCH if _dotted(value, aliases) == "sys.path" else ""
        case _:
            return ""
    if name in _BY_NAME:
        return "imports a module by a name that it computes"
    if name in ("sys.meta_path", "sys.path_hooks", "site.addsitedir"):
        return _SEARCH
    if name in _FROM_ANYWHERE:
        return "runs code that is no import"
    changed = isinstance(getattr(node, "ctx", None), ast.Store | ast.Del)
    if name == "sys.path" and changed:
        return _SEARCH
    before, _, last = name.rpartition(".")
    if before == "sys.path" and last in _CHANGES:
        return _SEARCH
    return ""


def _texts(value: ast.AST) -> tuple[str, ...]:
    parts = value.elts if isinstance(value, ast.List | ast.Tuple) else []
    return tuple(part.value for part in parts if isinstance(part, ast.Constant))
