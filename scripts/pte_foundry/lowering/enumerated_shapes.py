"""Checks of a model's enumerated shapes against its inputs.

Works on rows of ``models.inputs.inputs_table`` and imports nothing heavy, so that planning a build
applies the same rules as the lowering. The limits are upstream's (executorch 1.5.1,
``backends/apple/coreml/compiler/enumerated_shape_utils.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pte_foundry.findings import Finding, KeyPath, did_you_mean, listed
from pte_foundry.models.enumerated import Shapes, by_method

_DTYPES = ("float16", "float32", "int32", "int64")


def enumeration_findings(
    path: KeyPath,
    given: Mapping[str, Any],
    inputs: Sequence[Mapping[str, Any]],
    model: str = "the model",
) -> Iterator[Finding]:
    """Find shapes that do not fit the inputs of a model's methods.

    Args:
        path: key path of ``enumerated_shapes``.
        given: its value: the shapes of each input, or those by method.
        inputs: ``models.inputs.inputs_table`` of the model; rows have their method if there are
            several.
        model: its name.
    """
    methods = {row["method"] for row in inputs if "method" in row}
    for method, shapes in by_method(given).items():
        below = path if method is None else (*path, method)
        if method is None and methods:
            fix = f"name the method above the inputs: {min(methods)}: {{INPUT: [SHAPE, …]}}"
            yield Finding(path, f"{model} has several methods", listed(sorted(methods)), fix)
        elif method is not None and method not in (methods or {"forward"}):
            known = sorted(methods or {"forward"})
            fix = did_you_mean(method, known, "correct the name, or remove it")
            yield Finding(below, f"{model} has no such method", listed(known), fix)
        else:
            rows = [row for row in inputs if row.get("method", method) == method]
            yield from shape_findings(below, shapes, rows, model)


def shape_findings(
    path: KeyPath, shapes: Shapes, inputs: Sequence[Mapping[str, Any]], model: str = "the model"
) -> Iterator[Finding]:
    """Find shapes that do not fit the inputs of a model.

    Args:
        path: key path of ``enumerated_shapes``.
        shapes: its value: the shapes of each input, by the input's name.
        inputs: ``models.inputs.inputs_table`` of the model.
        model: its name.
    """
    names = [row["name"] for row in inputs]
    for name in shapes:
        if name not in names:
            fix = did_you_mean(name, names, "correct the name, or remove it")
            yield Finding((*path, name), f"{model} has no such input", listed(names), fix)
    for row in inputs:
        key, dtype = (*path, row["name"]), row["dtype"]
        if dtype not in _DTYPES:
            fix = "convert it in the model: give int32, and compare in forward()"
            problem = (
                f"the input of {model} is {dtype}, which enumerated shapes exclude for all inputs"
            )
            yield Finding(key, problem, listed(_DTYPES), fix)
        if row["name"] in shapes:
            yield from _misfits(key, shapes[row["name"]], row["shape"])
        elif any(isinstance(size, list) for size in row["shape"]):
            problem = f"the input of {model} has a dynamic shape, so its shapes must be listed"
            fix = "list them, or make it static in dynamic_shapes()"
            yield Finding(key, problem, _shown(row["shape"]), fix)


def _misfits(
    path: KeyPath, listed_shapes: Sequence[Sequence[int]], shape: list
) -> Iterator[Finding]:
    """Compares shapes with the exported one, in which a dynamic size is [lowest, highest]."""
    if not any(isinstance(size, list) for size in shape):
        problem = "the input was exported with a static shape"
        fix = "make it dynamic in the model's dynamic_shapes(), or remove it here"
        yield Finding(path, problem, _shown(shape), fix, listed_shapes)
        return
    for index, given in enumerate(listed_shapes):
        fits = len(given) == len(shape) and all(map(_fits, given, shape))
        if not fits:
            problem = "the input was not exported for this shape"
            fix = "change it, or the model's dynamic_shapes()"
            yield Finding((*path, index), problem, _shown(shape), fix, given)


def _fits(size: int, exported: Any) -> bool:
    if not isinstance(exported, list):
        return size == exported
    low, high = exported
    return (low is None or size >= low) and (high is None or size <= high)


def _shown(shape: list) -> str:
    """``[1, 2 to 64, at least 8]``."""
    sizes = []
    for size in shape:
        low, high = size if isinstance(size, list) else (size, size)
        if low == high:
            sizes.append(str(low))
        else:
            sizes.append(f"{low} to {high}" if high is not None else f"at least {low}")
    return f"[{', '.join(sizes)}]"
