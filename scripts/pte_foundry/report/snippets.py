"""How an app loads an artifact: code in Swift, Objective-C++ and Python with its own names.

The calls are those of ExecuTorch 1.5 (docs/source/using-executorch-ios.md, runtime/__init__.py).
"""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from pte_foundry.report import methods
from pte_foundry.report.schema import SummaryRecord


class _Type(NamedTuple):
    """A dtype: of Swift's ``Tensor``, of C++, and ExecuTorch's constant for it."""

    swift: str
    cpp: str
    constant: str


_TYPES = {
    "float32": _Type("Float", "float", "Float"),
    "float16": _Type("Float16", "__fp16", "Half"),
    "float64": _Type("Double", "double", "Double"),
    "int64": _Type("Int64", "int64_t", "Long"),
    "int32": _Type("Int32", "int32_t", "Int"),
    "int16": _Type("Int16", "int16_t", "Short"),
    "int8": _Type("Int8", "int8_t", "Char"),
    "uint8": _Type("UInt8", "uint8_t", "Byte"),
    "bool": _Type("Bool", "bool", "Bool"),
}
_RESERVED = {
    *keyword.kwlist,
    *("let", "var", "func", "in", "is", "self", "init", "default", "switch", "case", "repeat"),
    *("int", "float", "double", "char", "bool", "auto", "new", "delete", "this", "template"),
    *("module", "outputs", "error", "path", "method", "torch"),
}


@dataclass(frozen=True)
class Value:
    """An input or output.

    Attributes:
        name: as an identifier in all three languages.
        dtype: torch's.
        shape: with None for a size that varies; None if it is unknown.
    """

    name: str
    dtype: str
    shape: Sequence[int | None] | None

    @property
    def sizes(self) -> list[int]:
        """A shape to begin with: 1 for a size that varies."""
        return [1 if size is None else size for size in self.shape or []]

    @property
    def type(self) -> _Type:
        return _TYPES[self.dtype]

    @property
    def note(self) -> str:
        """``[1, n]``: the shape, if a size varies."""
        return shown(self.shape)


def shown(shape: Sequence[int | None] | None) -> str:
    """Formats a shape: ``[1, n]`` has a size that varies; "" if it is unknown."""
    if shape is None:
        return ""
    return f"[{', '.join('n' if size is None else str(size) for size in shape)}]"


def snippets(build: SummaryRecord) -> list[list[str]]:
    """Returns pairs of a language and code that loads a build's artifact and calls a method once.

    Nothing for an artifact whose inputs are unknown, or with a dtype that the runtime's interface
    does not have.
    """
    path = PurePosixPath(build["paths"]["pte"])
    languages = {"Swift": _swift, "Objective-C++": _objective_c, "Python": _python}
    found = []
    for language, write in languages.items():
        for method in methods.of(build):
            taken: set[str] = set()
            inputs = [_value(facts, taken) for facts in method["inputs"]]
            outputs = [_value(facts, taken) for facts in method["outputs"]]
            if not inputs or not outputs or any(v.dtype not in _TYPES for v in [*inputs, *outputs]):
                return []
            name = method["name"]
            title = f"{language}, {name}" if name else language
            found.append([title, write(path.stem, name or _only(build), inputs, outputs)])
    return found


def _only(build: SummaryRecord) -> str:
    """The name of the only method of a build."""
    return ((build["artifact"] or {}).get("methods") or ["forward"])[0]


def _value(facts: Any, taken: set[str]) -> Value:
    name = re.sub(r"\W+", "_", facts["name"], flags=re.ASCII).strip("_") or "value"
    if name[0].isdigit() or name in _RESERVED:
        name = f"value_{name}"
    while name in taken:
        name += "_"
    taken.add(name)
    return Value(name, facts.get("dtype", ""), facts.get("shape"))


def _swift(file: str, method: str, inputs: Sequence[Value], outputs: Sequence[Value]) -> str:
    run = "forward(" if method == "forward" else f'execute("{method}", '
    lines = [
        "import ExecuTorch  // and link backend_coreml",
        "",
        f'let path = Bundle.main.path(forResource: "{file}", ofType: "pte")!',
        "let module = Module(filePath: path)",
    ]
    for value in inputs:
        zeros = f"[{value.type.swift}](repeating: {_zero(value)}, count: {math.prod(value.sizes)})"
        lines.append(
            f"let {value.name} = Tensor<{value.type.swift}>({zeros}, shape: {value.sizes})"
            + _note(value)
        )
    lines.append(f"let outputs = try module.{run}[{', '.join(v.name for v in inputs)}])")
    lines += [
        f"let {v.name}: Tensor<{v.type.swift}> = outputs[{i}].tensor()!  // {v.note}"
        for i, v in enumerate(outputs)
    ]
    return "\n".join(lines)


def _zero(value: Value) -> str:
    return "false" if value.dtype == "bool" else "0"


def _note(value: Value, mark: str = "//") -> str:
    return f"  {mark} {value.note}" if None in (value.shape or ()) else ""


def _objective_c(file: str, method: str, inputs: Sequence[Value], outputs: Sequence[Value]) -> str:
    lines = [
        "#import <ExecuTorch/ExecuTorch.h>  // and link backend_coreml",
        "#include <vector>",
        "",
        f'NSString *path = [NSBundle.mainBundle pathForResource:@"{file}" ofType:@"pte"];',
        "ExecuTorchModule *module = [[ExecuTorchModule alloc] initWithFilePath:path];",
    ]
    for value in inputs:
        shape = ", ".join(f"@{size}" for size in value.sizes)
        # std::vector<bool> has no array inside.
        kind = "uint8_t" if value.dtype == "bool" else value.type.cpp
        lines += [
            f"std::vector<{kind}> {value.name}_data({math.prod(value.sizes)});" + _note(value),
            f"ExecuTorchTensor *{value.name} = [[ExecuTorchTensor alloc]",
            f"    initWithBytesNoCopy:{value.name}_data.data()",
            f"                  shape:@[{shape}]",
            f"               dataType:ExecuTorchDataType{value.type.constant}];",
        ]
    lines.append("NSError *error = nil;")
    if method == "forward":
        given = ", ".join(value.name for value in inputs)
        call = f"[module forwardWithTensors:@[{given}] error:&error]"
    else:
        given = ", ".join(f"[ExecuTorchValue valueWithTensor:{value.name}]" for value in inputs)
        call = f'[module executeMethod:@"{method}" withInputs:@[{given}] error:&error]'
    lines.append(f"NSArray<ExecuTorchValue *> *outputs = {call};")
    lines += [
        f"ExecuTorchTensor *{v.name} = outputs[{i}].tensorValue;  // {v.note}"
        for i, v in enumerate(outputs)
    ]
    return "\n".join(lines)


def _python(file: str, method: str, inputs: Sequence[Value], outputs: Sequence[Value]) -> str:
    lines = [
        "# on a Mac: Core ML does not exist elsewhere",
        "import torch",
        "from executorch.runtime import Runtime",
        "",
        f'program = Runtime.get().load_program("{file}.pte")',
        f'method = program.load_method("{method}")',
    ]
    lines += [
        f"{v.name} = torch.zeros({v.sizes}, dtype=torch.{v.dtype})" + _note(v, "#") for v in inputs
    ]
    names = ", ".join(v.name for v in outputs) + ("," if len(outputs) == 1 else "")
    lines.append(f"{names} = method.execute([{', '.join(v.name for v in inputs)}])")
    return "\n".join(lines)
