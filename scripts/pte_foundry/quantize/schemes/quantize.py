"""Weight-only compression of linears and embeddings by torchao's ``quantize_``.

Replaces the weights of the eager model's modules and exports it afterwards, because it selects
modules by type and name. The limits checked here are those of torchao 0.18
(codebook_coreml/codebook_ops.py) and of ExecuTorch's lowering (backends/apple/coreml/compiler/
torch_ops.py): 2-D weights only, whole groups and blocks only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pte_foundry.findings import Finding, did_you_mean, listed
from pte_foundry.quantize.schemes import Module, Modules

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from pte_foundry.models.module import ModelModule

_MOST_SHOWN = 5

# As upstream's default filter: attention reads this linear's weight without calling it.
_INTERNAL = "torch.nn.modules.linear.NonDynamicallyQuantizableLinear"


def convert(
    model: ModelModule, recipe: Mapping[str, Any], program: Path, statistics: Path | None
) -> ExportedProgram:
    """Return the program of ``model`` with compressed weights.

    Args:
        model: the module of the model: eager model, example inputs, dynamic shapes.
        recipe: its slice of the configuration (``Config.recipe``).
        program: not used: the eager model is exported again, with its compressed weights.
        statistics: not used: activations stay in floating point.
    """
    from pte_foundry.models.export import export
    from pte_foundry.quantize import weight_only

    return export(model, weight_only.quantize(model.build(), recipe["steps"]))


def findings(
    recipe_name: str, recipe: Mapping[str, Any], model_name: str, modules: Modules
) -> list[Finding]:
    """Check every step against the modules of a model.

    The first step that selects a module compresses it.
    """
    found: list[Finding] = []
    touched: set[str] = set()
    for index, step in enumerate(recipe["steps"]):
        path = ("recipes", recipe_name, "steps", index)
        found += _step(path, step, model_name, modules, touched)
    return found


def selected(step: Mapping[str, Any], modules: Modules) -> list[Module]:
    """Return the modules that a ``quantize`` step selects: by type and name, less exclusions."""
    return [
        module
        for module in modules
        if not set(step["types"]).isdisjoint({module["type"], *module["types"]})
        and (module["type"] != _INTERNAL or _INTERNAL in step["types"])
        and any(fnmatchcase(module["name"], pattern) for pattern in step["names"])
        and not any(fnmatchcase(module["name"], pattern) for pattern in step["exclude"])
    ]


def _step(
    path: tuple, step: Mapping[str, Any], model: str, modules: Modules, touched: set[str]
) -> Iterator[Finding]:
    yield from _filters((*path, "modules"), step, model, modules)
    chosen = selected(step, modules)
    found = [module for module in chosen if module["name"] not in touched]
    if not found:
        problem = f"the step matches no module of {model}"
        if chosen:
            problem = f"earlier steps already compress all that the step matches in {model}"
        fix = "widen types or names, or leave the recipe out for this model"
        value = {key: step[key] for key in ("types", "names", "exclude")}
        yield Finding((*path, "modules"), problem, f"types: {_types(modules)}", fix, value)
    touched |= {module["name"] for module in found}
    complaints: dict[tuple, list[str]] = {}
    for module in found:
        for key, problem, allowed, fix in _weight(step, module):
            complaints.setdefault((key, problem, allowed, fix), []).append(_described(module))
    for (key, problem, allowed, fix), names in complaints.items():
        more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
        where = f"{listed(names[:_MOST_SHOWN])}{more} of {model}"
        yield Finding((*path, *key), f"{problem}: {where}", allowed, fix)


def _described(module: Module) -> str:
    shape = module["weight"]
    return module["name"] + ("" if shape is None else f" [{', '.join(map(str, shape))}]")


def _types(modules: Modules) -> str:
    return listed(sorted({module["type"] for module in modules}))


def _weight(step: Mapping[str, Any], module: Module) -> Iterator[tuple]:
    """Yield (key, problem, allowed, fix) for every reason why a step cannot compress a weight."""
    shape = module["weight"]
    if shape is None or len(shape) != 2:
        what = "the module has no weight" if shape is None else "the weight is not 2-D"
        fix = "exclude the module; PT2E can quantize convolutions"
        yield ("modules",), what, "modules with a weight [rows, columns]", fix
        return
    rows, columns = shape
    if step["scheme"] == "affine":
        size = step["granularity"].get("group_size")
        if size is not None and columns % size:
            yield (
                ("affine", "granularity", "group_size"),
                f"{size} does not divide the {columns} columns",
                f"a divisor of {columns}",
                _nearest(columns, size, "group_size"),
            )
        return
    block_rows, block_columns = (
        whole if size == -1 else size for size, whole in zip(step["block_size"], shape, strict=True)
    )
    key = ("codebook", "block_size")
    for size, whole, what in ((block_rows, rows, "rows"), (block_columns, columns, "columns")):
        if whole % size:
            allowed = f"-1 or a divisor of {whole}"
            fix = _nearest(whole, size, f"block size of {what}")
            yield key, f"{size} does not divide the {whole} {what}", allowed, fix
    if block_rows != rows and block_columns != columns:
        fix = "set one of the two to -1"
        yield key, "the blocks split both rows and columns", "[N, -1] or [-1, N]", fix


def _nearest(whole: int, size: int, what: str) -> str:
    best = max(divisor for divisor in range(1, min(size, whole) + 1) if whole % divisor == 0)
    return f"use {what} {best}, or exclude the module"


def _filters(
    path: tuple, chosen: Mapping[str, Any], model: str, modules: Modules
) -> Iterator[Finding]:
    """Find patterns that match no module: each is probably a typo."""
    for key in ("names", "exclude"):
        for at, pattern in enumerate(chosen[key]):
            if not any(fnmatchcase(module["name"], pattern) for module in modules):
                fix = did_you_mean(pattern, [m["name"] for m in modules], "correct or remove it")
                problem = f"the pattern matches no module of {model}"
                allowed = "patterns of module names"
                yield Finding((*path, key, at), problem, allowed, fix, pattern)
