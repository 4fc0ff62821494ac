"""Protects the one door to upstream: no patch and no private name of it anywhere else.

Types are not known here, so private attributes count as upstream's unless the file itself defines
such a name, or they belong to a module of another library.
"""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.project import ROOT

LIBRARY = ROOT / "scripts" / "pte_foundry"
FILES = [
    path for path in sorted(LIBRARY.rglob("*.py")) if not path.is_relative_to(LIBRARY / "upstream")
]
UPSTREAM = {"torch", "torchao", "torchvision", "executorch", "coremltools", "snakemake"}
OURSELVES = ("self", "cls")
PRIVATE = re.compile(r"_(?!_)\w*$")
MODULE = re.compile(rf"({'|'.join(sorted(UPSTREAM))})(\.\w+)*\._[a-z]\w*(\.\w+)*$")

ALLOWED = {
    # The baseline of the benchmark, as executorch's documentation tells users to write it.
    ("bench/upstream_script.py", "argument _check_ir_validity"),
}

# What a Snakefile may use of `workflow`: documented in Snakemake's manual, or its only source.
WORKFLOW = {"basedir", "current_basedir", "configfiles", "source_path"}


def private(dotted: str) -> bool:
    return any(PRIVATE.match(part) for part in dotted.split("."))


def upstream(dotted: str) -> bool:
    return dotted.partition(".")[0] in UPSTREAM


def imported(tree: ast.Module) -> dict[str, str]:
    """What every imported name stands for."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                found[name] = alias.name if alias.asname else name
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


def defined(tree: ast.AST) -> set[str]:
    """Names of functions, classes, methods and attributes that this code defines."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.ClassDef(name=name, body=body):
                found.add(name)
                for statement in body:
                    if isinstance(statement, ast.AnnAssign | ast.Assign):
                        one = isinstance(statement, ast.AnnAssign)
                        targets = [statement.target] if one else statement.targets
                        found |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                found.add(name)
    return found


def root(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def reaches(source: str) -> Iterator[tuple[int, str]]:
    """Line and kind of every patch of upstream and every use of a private name of it."""
    tree = ast.parse(source)
    names, own = imported(tree), defined(tree)
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}

    def theirs(node: ast.AST) -> bool:
        return upstream(names.get(root(node), ""))

    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                for alias in aliases:
                    if alias.name.startswith("unittest"):
                        yield node.lineno, "a patch"
                    elif upstream(alias.name) and private(alias.name):
                        yield node.lineno, f"import of {alias.name}"
            case ast.ImportFrom(module=str(module), names=aliases):
                for alias in aliases:
                    dotted = f"{module}.{alias.name}"
                    if module.startswith("unittest"):
                        yield node.lineno, "a patch"
                    elif upstream(module) and private(dotted):
                        yield node.lineno, f"import of {dotted}"
            case ast.Constant(value=str(text)) if MODULE.match(text):
                yield node.lineno, f"import of {text}"
            case ast.keyword(arg=str(name)) if PRIVATE.match(name) and name not in own:
                yield node.lineno, f"argument {name}"
            case ast.Attribute(value=value, attr=name) if PRIVATE.match(name):
                library = names.get(root(value), "")
                if name not in own and (not library or upstream(library)):
                    yield node.lineno, f"use of .{name}"
            case ast.Call(func=ast.Name(id="getattr" | "setattr" | "delattr"), args=[of, name, *_]):
                called = node.func.id
                text = name.value if isinstance(name, ast.Constant) else ""
                if (called != "getattr" and theirs(of)) or PRIVATE.match(str(text)):
                    yield node.lineno, f"{called} of {ast.unparse(name)}"
        match node:
            case ast.Assign(targets=targets, value=value):
                replaced = isinstance(value, ast.Lambda) or root(value) in functions
                by_function = replaced and not isinstance(value, ast.Call | ast.Subscript)
                for target in targets:
                    other = isinstance(target, ast.Attribute) and root(target) not in OURSELVES
                    if other and (theirs(target) or by_function):
                        yield node.lineno, f"a patch of {ast.unparse(target)}"
            case ast.AugAssign(target=ast.Attribute() as target) if theirs(target):
                yield node.lineno, f"a patch of {ast.unparse(target)}"
            case ast.ClassDef(bases=bases) if any(map(theirs, bases)):
                for inner in ast.walk(node):
                    match inner:
                        case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name):
                            if PRIVATE.match(name) and name not in defined(node):
                                yield inner.lineno, f"use of upstream's {name} by inheritance"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_upstream_is_reached_through_the_package_alone(path):
    name = path.relative_to(LIBRARY).as_posix()
    found = [
        f"line {line}: {what}"
        for line, what in reaches(path.read_text(encoding="utf-8"))
        if (name, what) not in ALLOWED
    ]
    assert not found, f"{path.relative_to(ROOT)}: {found}; it belongs into pte_foundry/upstream/"


def test_the_rules_use_what_snakemake_documents():
    for path in (ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))):
        code = re.sub(r"#.*", "", path.read_text(encoding="utf-8"))
        used = set(re.findall(r"(?<![.\w/])workflow\.(\w+)", code))
        assert used <= WORKFLOW, path.name
        assert not re.search(r"\bsnakemake(\.\w+)*\._|import _", code), path.name


@pytest.mark.parametrize(
    "source",
    [
        "from torch._subclasses import FakeTensorMode",
        "from executorch.exir._serialize._program import PTEFile",
        "from executorch.backends.apple.coreml.quantizer import _coreml_quantizer_utils as utils",
        "import torch.ao.quantization.fx._decomposed",
        "NEEDS = 'torch.ao.quantization.fx._decomposed'",
        "import torch\ndef f(x: torch._ops.OpOverload): ...",
        "def f(operator): return operator._schema",
        "def f(node): node.target = node.target._op",
        "EdgeCompileConfig(_check_ir_validity=False)",
        "from unittest.mock import patch",
        "import unittest.mock",
        "import torch\ntorch.relu = None",
        "from torch.export import ExportedProgram\nExportedProgram.run_decompositions = print",
        "import torch\nsetattr(torch, 'relu', None)",
        "def g(): ...\ndef f(program): program.run_decompositions = g",
        "def f(program): program.run_decompositions = lambda table: program",
        "def f(note): return getattr(note, '_annotated')",
        "from coremltools import Q\nclass A(Q):\n    def f(self): self._annotate_all_patterns()",
    ],
)
def test_a_reach_is_noticed(source):
    assert list(reaches(source))


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos._exit(1)",
        "import torch\ntorch.ops.aten.relu.default",
        "class A:\n    def _f(self): ...\n    def g(self, other): return other._f()",
        "class A:\n    def __init__(self): self._x = 1\ndef f(a): return a._x",
        "from torch import nn\nclass A(nn.Module):\n  def f(self): self._g()\n  def _g(self): ...",
        "def f(held): held.data = canonical(held.data)",
        "def f(x): return x.__class__",
    ],
)
def test_what_is_our_own_is_none(source):
    assert not list(reaches(source))
