"""The functions and parameters of a model's Python file, parsed without running it."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pte_foundry.config.task_metrics import task_metrics
from pte_foundry.models.contract import FUNCTIONS, RESERVED


@dataclass
class Interface:
    """The functions of a module, with their parameters for options and the data they read.

    ``None`` as parameters: the source does not show them (an import, an alias, ``**options``).
    ``None`` as metrics: it does not show the names of the task metrics.
    """

    functions: dict[str, frozenset[str] | None] = field(default_factory=dict)
    data: frozenset[str] = frozenset()
    metrics: frozenset[str] | None = None
    description: str = ""
    """The first paragraph of the docstring."""

    def options_of(self, functions: Iterable[str]) -> frozenset[str] | None:
        """Return the options that these functions take; ``None``: any."""
        found = [self.functions[name] for name in functions if name in self.functions]
        return None if None in found else frozenset().union(*found)


def read_interface(file: Path) -> Interface:
    """Parse a module's source.

    Raises:
        OSError: the file cannot be read.
        SyntaxError: it is not Python.
        ValueError: it contains null bytes.
    """
    tree = ast.parse(file.read_bytes(), filename=str(file))
    interface = Interface()
    paragraph, _, _ = (ast.get_docstring(tree) or "").partition("\n\n")
    interface.description = " ".join(paragraph.split())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            names = {a.arg for a in [*node.args.args, *node.args.kwonlyargs]} - RESERVED
            interface.functions[node.name] = None if node.args.kwarg else frozenset(names)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                interface.functions[(alias.asname or alias.name).split(".")[0]] = None
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    interface.functions[target.id] = None
    interface.functions = {k: v for k, v in interface.functions.items() if k in FUNCTIONS}
    interface.metrics = task_metrics(tree)
    interface.data = frozenset(
        name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name in FUNCTIONS
        for name in _data_read_by(node)
    )
    return interface


def interface_of(files: Iterable[Path]) -> Interface:
    """Parse several files with functions of one model; a function of the first one counts.

    Raises:
        OSError: a file cannot be read.
        SyntaxError: it is not Python.
        ValueError: it contains null bytes.
    """
    found = Interface(metrics=frozenset())
    for number, file in enumerate(files):
        one = read_interface(file)
        found.description = found.description if number else one.description
        found.functions = one.functions | found.functions
        found.data |= one.data
        unknown = found.metrics is None or one.metrics is None
        found.metrics = None if unknown else found.metrics | one.metrics
    return found


def _data_read_by(function: ast.FunctionDef) -> Iterator[str]:
    """Yield the names of the data files that a function reads from its parameter ``data``.

    Nothing if it is no parameter or is assigned to: then it is a variable like any other.
    """
    parameters = {argument.arg for argument in [*function.args.args, *function.args.kwonlyargs]}
    names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
    assigned = {name.id for name in names if not isinstance(name.ctx, ast.Load)}
    inner = [node for node in ast.walk(function) if isinstance(node, ast.arg)]
    hidden = sum(argument.arg == "data" for argument in inner) > 1  # by a nested function's own
    if "data" not in parameters - assigned or hidden:
        return
    for node in ast.walk(function):
        match node:
            case ast.Subscript(value=ast.Name(id="data"), slice=ast.Constant(value=str() as name)):
                yield name
