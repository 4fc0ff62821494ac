"""Checks of a recipe against the modules of a model, once the model has been exported.

The limits are those of torchao 0.18 (codebook_coreml/codebook_ops.py) and of ExecuTorch 1.4.1's
lowering (backends/apple/coreml/compiler/torch_ops.py): matrices only, whole groups and blocks only.
"""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from scripts.config.findings import Finding, did_you_mean, listed

Module = Mapping[str, Any]
_MOST_SHOWN = 5

# As upstream's default filter: attention reads this linear's weight without calling it.
_INTERNAL = "torch.nn.modules.linear.NonDynamicallyQuantizableLinear"


def structure_findings(
    recipe_name: str, recipe: Mapping[str, Any], model_name: str, modules: Sequence[Module]
) -> list[Finding]:
    """Check a recipe against a model.

    ``recipe`` is the recipe as ``Config.slice("convert", …)["recipe"]`` gives it; of its steps,
    the first that chooses a module compresses it. Each module is
    ``{"name": fully qualified name, "type": dotted name, "types": [dotted names of the class and
    its bases, aliases included], "weight": shape or None}``.
    """
    path = ("recipes", recipe_name)
    if recipe["scheme"] == "pt2e":
        return list(_pt2e(path, recipe, model_name, modules))
    findings: list[Finding] = []
    touched: set[str] = set()
    for index, step in enumerate(recipe["steps"] if recipe["scheme"] == "quantize" else []):
        findings += _step((*path, "steps", index), step, model_name, modules, touched)
    return findings


def structure_errors(
    recipe_name: str, recipe: Mapping[str, Any], model_name: str, modules: Sequence[Module]
) -> str:
    """Return the findings as one message; empty if there are none."""
    return "\n".join(map(str, structure_findings(recipe_name, recipe, model_name, modules)))


def selected(step: Mapping[str, Any], modules: Sequence[Module]) -> list[Module]:
    """Return the modules that a ``quantize`` step chooses: by type and name, less exclusions."""
    return [
        module
        for module in modules
        if not set(step["types"]).isdisjoint({module["type"], *module["types"]})
        and (module["type"] != _INTERNAL or _INTERNAL in step["types"])
        and any(fnmatchcase(module["name"], pattern) for pattern in step["names"])
        and not any(fnmatchcase(module["name"], pattern) for pattern in step["exclude"])
    ]


def _step(
    path: tuple, step: Mapping[str, Any], model: str, modules: Sequence[Module], touched: set[str]
) -> Iterator[Finding]:
    yield from _filters((*path, "modules"), step, model, modules)
    chosen = selected(step, modules)
    found = [module for module in chosen if module["name"] not in touched]
    if not found:
        problem = f"the step finds no module in {model}"
        if chosen:
            problem = f"earlier steps have already compressed all that the step finds in {model}"
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


def _types(modules: Sequence[Module]) -> str:
    return listed(sorted({module["type"] for module in modules}))


def _weight(step: Mapping[str, Any], module: Module) -> Iterator[tuple]:
    """Yield (key, problem, allowed, fix) for what makes a step impossible on one weight."""
    shape = module["weight"]
    if shape is None or len(shape) != 2:
        what = "there is no weight" if shape is None else "the weight is no matrix"
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
        yield key, "both rows and columns are grouped", "[N, -1] or [-1, N]", fix


def _nearest(whole: int, size: int, what: str) -> str:
    best = max(divisor for divisor in range(1, min(size, whole) + 1) if whole % divisor == 0)
    return f"use {what} {best}, or exclude the module"


def _filters(
    path: tuple, chosen: Mapping[str, Any], model: str, modules: Sequence[Module]
) -> Iterator[Finding]:
    """Every single type and pattern must find something, or it is a slip of the pen."""
    for key in ("names", "exclude"):
        for at, pattern in enumerate(chosen[key]):
            if not any(fnmatchcase(module["name"], pattern) for module in modules):
                fix = did_you_mean(pattern, [m["name"] for m in modules], "correct or remove it")
                problem = f"no module of {model} has such a name"
                allowed = "patterns of module names"
                yield Finding((*path, key, at), problem, allowed, fix, pattern)


def _pt2e(
    path: tuple, recipe: Mapping[str, Any], model: str, modules: Sequence[Module]
) -> Iterator[Finding]:
    names = [module["name"] for module in modules if module["name"]]
    for name in recipe["module_name_configs"]:
        if name not in names:
            fix = did_you_mean(name, names, "correct or remove it")
            key = (*path, "module_name_configs", name)
            yield Finding(key, f"{model} has no such module", "names of its modules", fix)
    types = {kind for module in modules for kind in (module["type"], *module["types"])}
    for kind in recipe["module_type_configs"]:
        # Functions (torch.add, operator.add …) are no modules: only the graph would show them.
        is_module = kind.rpartition(".")[2][:1].isupper()
        if is_module and kind not in types:
            fix = did_you_mean(kind, types, "correct or remove it")
            key = (*path, "module_type_configs", kind)
            yield Finding(key, f"{model} has no module of this type", _types(modules), fix)
