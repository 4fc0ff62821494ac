"""Weight-only compression of linears and embeddings by torchao's ``quantize_``.

Replaces the weights of the eager model's modules and exports it afterwards, because it selects
modules by type and name (``pte_foundry.quantize.selection``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pte_foundry.findings import Finding, did_you_mean, listed
from pte_foundry.quantize.schemes import Module, Modules
from pte_foundry.quantize.selection import assigned, selected, weight_problems

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from pte_foundry.models.module import ModelModule

_MOST_SHOWN = 5


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
    steps = recipe["steps"]
    for index, (step, taken) in enumerate(zip(steps, assigned(steps, modules), strict=True)):
        path = ("recipes", recipe_name, "steps", index)
        found += _step(path, step, model_name, modules, taken)
    return found


def _step(
    path: tuple, step: Mapping[str, Any], model: str, modules: Modules, taken: list[Module]
) -> Iterator[Finding]:
    yield from _filters((*path, "modules"), step, model, modules)
    if not taken:
        problem = f"the step matches no module of {model}"
        if selected(step, modules):
            problem = f"earlier steps already compress all that the step matches in {model}"
        fix = "widen types or names, or leave the recipe out for this model"
        value = {key: step[key] for key in ("types", "names", "exclude")}
        yield Finding((*path, "modules"), problem, f"types: {_types(modules)}", fix, value)
    problems: dict[tuple, list[str]] = {}
    for module in taken:
        for problem in weight_problems(step, module):
            problems.setdefault(problem, []).append(_described(module))
    for (key, problem, allowed, fix), names in problems.items():
        more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
        where = f"{listed(names[:_MOST_SHOWN])}{more} of {model}"
        yield Finding((*path, *key), f"{problem}: {where}", allowed, fix)


def _described(module: Module) -> str:
    shape = module["weight"]
    return module["name"] + ("" if shape is None else f" [{', '.join(map(str, shape))}]")


def _types(modules: Modules) -> str:
    return listed(sorted({module["type"] for module in modules}))


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
