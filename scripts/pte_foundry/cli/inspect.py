"""``pte-foundry inspect``: prints the contents of a ``.pte`` or ``.mlpackage``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pte_foundry.cli.console import cell, console, print_facts, table
from pte_foundry.cli.files import add_model, existing
from pte_foundry.errors import InputError
from pte_foundry.report.text import size
from pte_foundry.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

    from pte_foundry.pte.delegate import Delegate

DESCRIPTION = """\
Prints the contents of a file without running it. For a .pte: methods, delegates
and kernels. For every Core ML model: inputs, states and outputs, the number of
operations by type, and the size of the weights, as stored and decompressed, in
decimal units (1 kB = 1000 B). Operations that pte-foundry run does not support
are marked."""
EXAMPLES = """\
  pte-foundry inspect model.mlpackage
  pte-foundry inspect results/pte/minilm/lut4/ios18.pte
  pte-foundry inspect --json model.mlpackage | jq '.functions.main.ops'
"""

# As types are written elsewhere.
_SHORT = {"float16": "fp16", "float32": "fp32", "float64": "fp64", "bfloat16": "bf16"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--method", metavar="NAME", help="of a .pte: print this method alone (all)")
    parser.add_argument("--json", action="store_true", help="print JSON, sizes in bytes")


def run(arguments: argparse.Namespace) -> int:
    from pte_foundry.mil.inspect_model import describe_package

    path = existing(arguments.file)
    if path.suffix != ".pte":
        if arguments.method:
            raise InputError("--method is for a .pte; an .mlpackage has functions, all printed")
        described = describe_package(path)
        if arguments.json:
            print(json.dumps(described, indent=1))
        else:
            _print_package(console(), described)
        return 0
    from pte_foundry.formats import coreml_delegate as coreml
    from pte_foundry.formats.inspect_pte import describe
    from pte_foundry.pte import Pte

    described = describe(path).to_dict()
    methods = described["methods"]
    if arguments.method and arguments.method not in methods:
        raise InputError(f"no method {arguments.method!r}; the program has {', '.join(methods)}")
    shown = [arguments.method] if arguments.method else methods
    delegates = [delegate for delegate in Pte.load(path).delegates if delegate.method in shown]
    described["delegates"] = [d for d in described["delegates"] if d["method"] in shown]
    models = [
        _model(delegate)
        if delegate.backend_id == coreml.BACKEND and not delegate.model.compiled
        else {}
        for delegate in delegates
    ]
    if arguments.json:
        print(json.dumps(described | {"models": models}, indent=1))
    else:
        _print_pte(console(), described, models)
    return 0


def _model(delegate: Delegate) -> dict[str, Any]:
    """A delegate's model; of one that methods share, the function of its method."""
    from pte_foundry.mil.inspect_model import describe_model

    model = describe_model(delegate.model.spec)
    return model | {"functions": {delegate.function: model["functions"][delegate.function]}}


def _print_pte(
    console: Console, described: Mapping[str, Any], models: list[dict[str, Any]]
) -> None:
    """Prints a ``.pte``: the program around its delegates, then the Core ML model of each."""
    kernels = ", ".join(f"{op} ×{count}" for op, count in described["kernels"].items())
    facts = {
        "size": size(described["bytes"]),
        "methods": ", ".join(described["methods"]),
        "delegated": f"{described['delegated_fraction']:.0%} of the operators",
        "kernels": kernels or "none",
    }
    for name, value in described["constants"].items():
        facts[name] = printable(json.dumps(value))
    for method, names in described["output_names"].items():
        facts[f"outputs of {method}"] = ", ".join(map(printable, names))
    if described["unshared_bytes"]:
        stored = sum(described["weight_bytes"].values())
        unshared = size(described["unshared_bytes"])
        facts["weights"] = f"{size(stored)}, and {unshared} if methods shared none"
    print_facts(console, facts)
    for delegate, model in zip(described["delegates"], models, strict=True):
        console.print()
        title = cell(f"{delegate['backend_id']} in {delegate['method']}", "bold")
        console.print(title.append(f"  {size(delegate['bytes'])}", "dim"))
        print_facts(console, {key: str(value) for key, value in delegate["compile_specs"].items()})
        if model:
            _print_package(console, model)


def _print_package(console: Console, described: Mapping[str, Any]) -> None:
    """Prints what :func:`pte_foundry.mil.inspect_model.describe_model` returned."""
    facts = {"specification version": str(described["specification_version"])}
    print_facts(console, facts | described["metadata"])
    for name, function in described["functions"].items():
        console.print()
        console.print(cell(name, "bold").append(f"  {printable(function['opset'])}", "dim"))
        values = table("", "name", "type", indent=True)
        for kind, key in (("input", "inputs"), ("state", "states"), ("output", "outputs")):
            for value in function[key]:
                declared = value.get("accepts", value["type"])
                if "default" in value:
                    declared += f", {value['default']:g} if left out"
                values.add_row(cell(kind, "dim"), cell(value["name"]), cell(declared))
        console.print(values)
        counts = table("operation", "count", right=("count",), indent=True)
        for op, count in sorted(function["ops"].items(), key=lambda item: (-item[1], item[0])):
            shown = cell(op)
            if op in function["unsupported"]:
                shown.append(" not supported", "bold red")
            counts.add_row(shown, str(count))
        console.print(counts)
        _print_weights(console, function)


def _print_weights(console: Console, function: Mapping[str, Any]) -> None:
    """Prints the bytes of weights by type, as stored and decompressed."""
    for key, what in (("weight_bytes", "weights"), ("decompressed_bytes", "decompressed")):
        parts = ", ".join(
            f"{size(count)} {_SHORT.get(dtype, dtype)}" for dtype, count in function[key].items()
        )
        if parts:
            console.print(cell(f"  {what}: ", "dim").append(printable(parts), ""), soft_wrap=True)
