"""The names of the task metrics that a model's Python file returns, read from its source."""

import ast
from collections.abc import Iterator

_FUNCTIONS = ("score", "agreement")


def task_metrics(tree: ast.Module) -> frozenset[str] | None:
    """Return the names that ``score`` and ``agreement`` return, with ``<name>_change`` of scores.

    Returns:
        ``None`` if the source does not show them: a function that is imported, decorated, defined
        below the top level or by assignment, or that returns anything but a dict of literal names.
    """
    names: set[str] = set()
    for name in _FUNCTIONS:
        definitions = [node for node in ast.walk(tree) if name in _bound(node)]
        if not definitions:
            continue
        last = definitions[-1]
        plain = isinstance(last, ast.FunctionDef) and not last.decorator_list and last in tree.body
        returned = [_keys(node.value) for node in _returns(last)] if plain else [None]
        if not returned or None in returned:
            return None
        found = set().union(*returned)
        names |= found | ({f"{one}_change" for one in found} if name == "score" else set())
    return frozenset(names)


def _bound(node: ast.AST) -> list[str]:
    """The names of functions of the contract that a node may define."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.asname or alias.name for alias in node.names]
        return list(_FUNCTIONS) if "*" in names else names
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return [node.id]
    return []


def _returns(node: ast.AST) -> Iterator[ast.Return]:
    """The return statements of a function, without those of functions inside of it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Return):
            yield child
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _returns(child)


def _keys(value: ast.expr | None) -> set[str] | None:
    """The keys of a dict whose names are literal."""
    if isinstance(value, ast.Dict):
        keys = [key.value if isinstance(key, ast.Constant) else None for key in value.keys]
    elif (
        isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "dict"
    ):
        keys = [None] * len(value.args) + [keyword.arg for keyword in value.keywords]
    else:
        return None
    return set(keys) if all(isinstance(key, str) for key in keys) else None
