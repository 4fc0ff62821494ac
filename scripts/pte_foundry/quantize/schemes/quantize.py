"""Weight-only compression of linears and embeddings by torchao's ``quantize_``.

Replaces the weights of the eager model's modules and exports it afterwards, because it selects
modules by type and name (``pte_foundry.quantize.selection``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pte_foundry.findings import ABSENT, Finding, did_you_mean, listed
from pte_foundry.quantize.schemes import Module, Modules, Tables
from pte_foundry.quantize.selection import Problem, assigned, misfits, why_nothing

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from pte_foundry.models.module import ModelModule

_MOST_SHOWN = 5
_LEAVE_OUT = (
    "leave the recipe out for this model (for convolutions there are the default config's recipe "
    "int8_weight_only, and its target ios18_weights4 with the recipe fp16)"
)


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

    module, steps = model.build(), recipe["steps"]
    asks = any(step["scheme"] == "stored" for step in steps)
    stored = model.stored_weights(module) if asks else None
    return export_all(model, weight_only.quantize(module, steps, modules, stored))


def findings(
    recipe_name: str, recipe: Mapping[str, Any], model_name: str, modules: Modules
) -> list[Finding]:
    """Find steps that compress nothing in a model, unless they are optional and others do.

    The first step that can compress a module does, and others are left in floating point.
    """
    found: list[Finding] = []
    steps = recipe["steps"]
    chosen = assigned(steps, modules)
    compressed = {module["name"] for taken in chosen for module in taken}
    for index, (step, taken) in enumerate(zip(steps, chosen, strict=True)):
        path, unfit = ("recipes", recipe_name, "steps", index), misfits(step, modules)
        if not taken and not step.get("optional"):
            nothing = _nothing(path, step, model_name, modules)
            found += _misfits(path, model_name, unfit) or [nothing]
        else:  # one that is named, not matched, is certainly wanted
            wanted = set(step["names"]) - compressed
            named = [(module, why) for module, why in unfit if module["name"] in wanted]
            found += _misfits(path, model_name, named)
    if not found and not any(chosen):
        path, value = ("recipes", recipe_name, "steps"), ABSENT
        problem = f"no step of the recipe compresses anything in {model_name}"
        found.append(Finding(path, problem, f"types: {_types(modules)}", _LEAVE_OUT, value))
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


def _nothing(path: tuple, step: Mapping[str, Any], model: str, modules: Modules) -> Finding:
    """Returns why a step compresses nothing."""
    reason = why_nothing(step, modules)
    what = f"compresses nothing in {model}: {reason}" if reason else f"matches no module of {model}"
    fix = f"widen types or names, set `optional: true`, or {_LEAVE_OUT}"
    value = {key: step[key] for key in ("types", "names", "exclude")}
    allowed = f"types: {_types(modules)}"
    return Finding((*path, "modules"), f"the step {what}", allowed, fix, value)


def _misfits(
    path: tuple, model: str, unfit: Sequence[tuple[Module, Sequence[Problem]]]
) -> list[Finding]:
    """Returns which options of a step do not fit weights, each option once."""
    problems: dict[Problem, list[str]] = {}
    for module, reasons in unfit:
        for reason in reasons:
            problems.setdefault(reason, []).append(_described(module))
    found = []
    for (key, problem, allowed, fix), names in problems.items():
        more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
        where = f"{listed(names[:_MOST_SHOWN])}{more} of {model}"
        fix = f"{fix}, exclude the module, or {_LEAVE_OUT}"
        found.append(Finding((*path, *key), f"{problem}: {where}", allowed, fix))
    return found


def _described(module: Module) -> str:
    shape = module["weight"]
    return module["name"] + ("" if shape is None else f" [{', '.join(map(str, shape))}]")


def _types(modules: Modules) -> str:
    return listed(sorted({module["type"] for module in modules}))
