"""What the command line prints for people."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pte_foundry.report.text import size

# As types are written elsewhere.
_SHORT = {"float16": "fp16", "float32": "fp32", "float64": "fp64", "bfloat16": "bf16"}


def outputs(console: Console, arrays: Mapping[str, np.ndarray]) -> None:
    """Prints name, shape, dtype and range of every array."""
    table = _table("output", "shape", "dtype", "min", "max", right=("min", "max"))
    rows = summary(arrays)
    for name, row in rows.items():
        low, high = ("" if row[key] is None else f"{row[key]:.6g}" for key in ("min", "max"))
        shape = " × ".join(map(str, row["shape"])) or "scalar"
        table.add_row(Text(name), shape, row["dtype"], low, high)
    console.print(table)
    for name, row in rows.items():
        if row["nonfinite"]:
            text = f"{name}: {row['nonfinite']} of its values are inf or nan"
            console.print(Text(text, style="yellow"), soft_wrap=True)


def summary(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Shape, dtype, range of the finite values, and the number of others, of every array."""
    found = {}
    for name, array in arrays.items():
        finite = array[np.isfinite(array)]
        found[name] = {
            "shape": list(array.shape),
            "dtype": str(array.dtype),
            "min": finite.min().item() if finite.size else None,
            "max": finite.max().item() if finite.size else None,
            "nonfinite": int(array.size - finite.size),
        }
    return found


def package(console: Console, described: Mapping[str, Any]) -> None:
    """Prints what :func:`pte_foundry.mil.inspect_model.describe_model` found."""
    facts = {"specification version": str(described["specification_version"])}
    _facts(console, facts | described["metadata"])
    for name, function in described["functions"].items():
        console.print()
        console.print(Text.assemble((name, "bold"), (f"  {function['opset']}", "dim")))
        values = _table("", "name", "type", indent=True)
        for kind, key in (("input", "inputs"), ("state", "states"), ("output", "outputs")):
            for value in function[key]:
                declared = value.get("accepts", value["type"])
                if "default" in value:
                    declared += f", {value['default']:g} if left out"
                values.add_row(Text(kind, style="dim"), Text(value["name"]), Text(declared))
        console.print(values)
        counts = _table("operation", "count", right=("count",), indent=True)
        for op, count in sorted(function["ops"].items(), key=lambda item: (-item[1], item[0])):
            unsupported = op in function["unsupported"]
            note = Text(" not supported", style="bold red") if unsupported else ""
            counts.add_row(Text.assemble(op, note), str(count))
        console.print(counts)
        weights(console, function)


def weights(console: Console, function: Mapping[str, Any]) -> None:
    """Prints the bytes of weights, as they lie in the file and decompressed."""
    for key, what in (("weight_bytes", "weights"), ("decompressed_bytes", "decompressed")):
        parts = ", ".join(
            f"{size(count)} {_SHORT.get(dtype, dtype)}" for dtype, count in function[key].items()
        )
        if parts:
            console.print(Text.assemble((f"  {what}: ", "dim"), parts), soft_wrap=True)


def pte(console: Console, described: Mapping[str, Any], models: list[dict[str, Any]]) -> None:
    """Prints a ``.pte``: what is around its delegates, then the Core ML model of each."""
    kernels = ", ".join(f"{op} ×{count}" for op, count in described["kernels"].items())
    facts = {
        "size": size(described["bytes"]),
        "methods": ", ".join(described["methods"]),
        "delegated": f"{described['delegated_fraction']:.0%} of the operators",
        "kernels": kernels or "none",
    }
    _facts(console, facts)
    for delegate, model in zip(described["delegates"], models, strict=True):
        console.print()
        title = f"{delegate['backend_id']} in {delegate['method']}"
        console.print(Text.assemble((title, "bold"), (f"  {size(delegate['bytes'])}", "dim")))
        _facts(console, {key: str(value) for key, value in delegate["compile_specs"].items()})
        if model:
            package(console, model)


def ops(console: Console, rows: list[Any], opsets: list[str]) -> None:
    """Prints the table of operations and opsets: where each is implemented, or why it is not."""
    table = _table("operation", "family", *opsets)
    reasons = []
    for row in rows:
        cells = []
        for opset in opsets:
            said = row.versions.get(opset)
            if said in opsets:
                cells.append(Text("✓" if said != opset else "✓ new", style="green"))
            else:
                cells.append(Text("–" if said is None else "no", style="dim"))
            if said is not None and said not in opsets and (row.op, said) not in reasons:
                reasons.append((row.op, said))
        table.add_row(Text(row.op), Text(row.family, style="dim"), *cells)
    console.print(table)
    for op, reason in reasons:
        console.print(Text.assemble(op, (f": {reason}", "dim")), soft_wrap=True)


def _facts(console: Console, facts: Mapping[str, str]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in facts.items():
        table.add_row(Text(key), Text(value))
    if facts:
        console.print(table)


def _table(*titles: str, right: tuple[str, ...] = (), indent: bool = False) -> Table:
    table = Table(box=None, pad_edge=indent, header_style="dim", collapse_padding=True)
    for title in titles:
        table.add_column(
            title, justify="right" if title in right else "left", overflow="fold", no_wrap=False
        )
    return table
