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
from pte_foundry.quantize.schemes import Module, Modules, Tables
from pte_foundry.quantize.selection import assigned, weight_problems, why_nothing

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from pte_foundry.models.module import ModelModule

_MOST_SHOWN = 5


def convert(
    model: ModelModule,
    recipe: Mapping[str, Any],
    program: Path,
    statistics: Path | None,
    modules: Modules,
) -> dict[str, ExportedProgram]:
    """Return the programs of ``model`` by method, with compressed weights, which they share.

    Args:
        model: the module of the model: eager model, example inputs, dynamic shapes.
        recipe: its slice of the configuration (``Config.recipe``).
        program: not used: the eager model is exported again, with its compressed weights.
        statistics: not used: activations stay in floating point.
        modules: the modules of the model.
    """
    from pte_foundry.models.export import export_all
    from pte_foundry.quantize import weight_only

    return export_all(model, weight_only.quantize(model.build(), recipe["steps"], modules))


def findings(
    recipe_name: str, recipe: Mapping[str, Any], model_name: str, modules: Modules
) -> list[Finding]:
    """Check every step against the modules of a model.

    The first step that selects a module compresses it.
    """
    found: list[Finding] = []
    steps = recipe["steps"]
    chosen = assigned(steps, modules)
    for index, (step, taken) in enumerate(zip(steps, chosen, strict=True)):
        required = not (step.get("optional") and any(chosen))
        path = ("recipes", recipe_name, "steps", index)
        found += _step(path, step, model_name, modules, taken, required)
    return found


def unmatched(recipe_name: str, recipe: Mapping[str, Any], tables: Tables) -> list[Finding]:
    """Find patterns that match no module of any of these models: each is probably a typo."""
    names = [module["name"] for modules in tables.values() for module in modules]
    found = []
    for index, step in enumerate(recipe["steps"]):
        for key in ("names", "exclude"):
            for at, pattern in enumerate(step[key]):
                if not any(fnmatchcase(name, pattern) for name in names):
                    fix = did_you_mean(pattern, names, "correct or remove it")
                    problem = f"the pattern matches no module of {listed(tables)}"
                    path = ("recipes", recipe_name, "steps", index, "modules", key, at)
                    found.append(Finding(path, problem, "patterns of module names", fix, pattern))
    return found


def _step(
    path: tuple,
    step: Mapping[str, Any],
    model: str,
    modules: Modules,
    taken: list[Module],
    required: bool,
) -> Iterator[Finding]:
    if required and not taken:
        problem = f"the step matches no module of {model}"
        if reason := why_nothing(step, modules):
            problem = f"the step compresses nothing in {model}: {reason}"
        fix = "widen types or names, set `optional: true`, or leave the recipe out for this model"
        if step.get("optional"):
            problem = f"no step of the recipe compresses anything in {model}"
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
