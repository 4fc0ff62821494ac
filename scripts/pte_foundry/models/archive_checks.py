"""Checks of a ``.pt2`` before torch reads it: nothing in it may run as code.

``torch.export.load`` (torch 2.13) unpickles weights and constants that the archive marks so,
evaluates symbolic sizes as Python (``sympy.sympify``), resolves operators by attribute from the
module ``torch`` on (``torch.os.system``), and loads compiled libraries. An archive may come with
the results folder of somebody else, so each of these is held to what our own programs have.
"""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from pte_foundry.errors import ProgramError
from pte_foundry.upstream import torch_operators
from pte_foundry.upstream.torch_archives import Archive


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NAME = r"(?:model|method_\w+)"  # of a program: torch's, and ours for methods
_MODEL = re.compile(rf"models/{_NAME}\.json")
_CONFIG = re.compile(rf"(data/(weights|constants)/){_NAME}_(weights|constants)_config\.json")
_RECORD = re.compile(
    rf"(data/weights/(weight_\d+|{_NAME}_weights_config\.json)"
    rf"|data/constants/(tensor_\d+|{_NAME}_constants_config\.json)"
    rf"|models/{_NAME}\.json|data/sample_inputs/{_NAME}\.pt"
    r"|archive_format|archive_version|byteorder|\.data/(version|serialization_id|format_version))"
)
_ARITHMETIC = _words("""
    add sub mul truediv floordiv mod pow neg pos abs eq ne le ge lt gt and_ or_ not_ getitem
""")
_MATHS = _words("""
    ceil floor trunc sqrt log log2 exp
""")
_SYMBOLIC = re.compile(r"torch\.(_sym_\w+|sym_\w+)")
_HIGHER_ORDER = _words("""
    cond while_loop scan map_impl associative_scan wrap_with_set_grad_enabled wrap_with_autocast
    auto_functionalized auto_functionalized_v2
""")
_NAMESPACES = _words("""
    aten prims quantized_decomposed dim_order_ops quant export torchao torchvision coreml
""")
_FUNCTIONS = _words("""
    Symbol Dummy Integer Float Rational Add Mul Pow Mod Min Max Abs Eq Ne Lt Le Gt Ge Equality
    Unequality LessThan GreaterThan StrictLessThan StrictGreaterThan And Or Not Piecewise
    FloorDiv CleanDiv CeilDiv PythonMod ModularIndexing Where IntTrueDiv FloatTrueDiv FloatPow
    PowByNatural TruncToInt TruncToFloat CeilToInt FloorToInt RoundToInt RoundDecimal ToFloat
    Identity
""")
_CONSTANT_NAMES = re.compile(r"([suz][a-z]*\d+|true|false|oo|int_oo|nan)")
_SYNTAX = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Constant, ast.Load,
    ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
_QUANTIZED = {
    "torchao.quantization": ("IntxUnpackedToInt8Tensor",),
    "torchao.prototype.quantization.codebook_coreml": ("CodebookQuantizedTensor",),
}
"""Classes of weights in our quantized programs, by the module that has them."""


def refuse_code(path: Path) -> None:
    """Check that reading an archive runs no code of its author.

    Raises:
        ProgramError: it has a record, an operator, an expression or a pickled object that none of
            our programs has.
    """
    try:
        archive = Archive(path)
        names = archive.names()
        if unknown := sorted(name for name in names if not _RECORD.fullmatch(name)):
            raise ProgramError(f"an unexpected record {unknown[0]!r}")
        models = [name for name in names if _MODEL.fullmatch(name)]
        if not models:
            raise ValueError("it has no program")
        for name in models:
            _check_program(json.loads(archive.read(name)))
        for config in filter(None, map(_CONFIG.fullmatch, names)):
            _check_pickles(archive, config[1], json.loads(archive.read(config[0])))
    except ProgramError as error:
        raise ProgramError(
            f"{path} is refused, because reading it could run code: {error}. Expected a program "
            "that this project exported; rebuild it from its model."
        ) from error
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ProgramError(f"{path} is not an exported program: {error}") from error


def _check_pickles(archive: Archive, folder: str, config: dict[str, Any]) -> None:
    pickled = [e["path_name"] for e in config["config"].values() if e["use_pickle"] is not False]
    if not pickled:
        return
    allowed = [torch.nn.Parameter]
    for module, classes in _QUANTIZED.items():
        loaded = __import__(module, fromlist=classes)
        allowed += [getattr(loaded, name) for name in classes]
    with torch.serialization.safe_globals(allowed):
        for name in pickled:
            try:
                # Calls only what is allowed; what it accepts may be unpickled without restriction.
                torch.load(io.BytesIO(archive.read(folder + name)), weights_only=True)
            except Exception as error:
                raise ProgramError(f"the pickled record {folder + name!r}") from error


def _check_program(program: dict[str, Any]) -> None:
    for guard in program.get("guards_code") or []:
        if not _is_guard(guard):
            raise ProgramError(f"the guard {guard!r}")
    for part in _dicts(program):
        if "target" in part and not _is_operator(part["target"]):
            raise ProgramError(f"the operator {part['target']!r}")
        if "expr_str" in part and not _is_expression(part["expr_str"]):
            raise ProgramError(f"the expression {part['expr_str']!r}")
        for text in part.values():
            if isinstance(text, str) and "__enum__" in text:  # imports any module by its name
                raise ProgramError("an enumeration among its inputs")


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield value
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)


def _is_operator(target: Any) -> bool:
    match str(target).split("."):
        case ["_operator", name]:
            return name in _ARITHMETIC
        case ["math", name]:
            return name in _MATHS
        case ["torch", "ops", "higher_order", name]:
            return name in _HIGHER_ORDER
        case ["torch", "ops", namespace, packet, overload]:
            found = torch_operators.find(namespace, packet, overload)
            return namespace in _NAMESPACES and found is not None and not _touches_files(found)
    return _SYMBOLIC.fullmatch(str(target)) is not None


def _touches_files(operator: torch_operators.OpOverload) -> bool:
    """Whether an operator takes the name of a file, as ``aten::from_file`` and ``aten::save``."""
    return any("file" in argument.name for argument in torch_operators.schema(operator).arguments)


def _is_expression(text: Any) -> bool:
    return isinstance(text, str) and _made_of(text, _is_part_of_expression)


def _is_part_of_expression(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Name(id=name)):
            return name in _FUNCTIONS
        case ast.keyword(arg=name, value=ast.Constant(value=bool())):
            return name in ("integer", "positive", "nonnegative", "real", "evaluate")
        case ast.Name(id=name):
            return name in _FUNCTIONS or _CONSTANT_NAMES.fullmatch(name) is not None
        case ast.Constant(value=str(text)):
            return re.fullmatch(r"\w+|[\d.eE+-]+", text) is not None
    return isinstance(node, _SYNTAX)


def _is_guard(text: Any) -> bool:
    return isinstance(text, str) and _made_of(text, _is_part_of_guard)


def _is_part_of_guard(node: ast.AST) -> bool:
    match node:
        case ast.Name(id="L") | ast.Subscript():
            return True
        case ast.Attribute(attr="size" | "shape") | ast.Call(args=[], keywords=[]):
            return True
    return isinstance(node, _SYNTAX)


def _made_of(text: str, allowed: Any) -> bool:
    try:
        return all(map(allowed, ast.walk(ast.parse(text.strip(), mode="eval"))))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
