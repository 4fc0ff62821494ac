"""8-bit quantization by PT2E with ExecuTorch's ``CoreMLQuantizer``: rewrites the exported graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pte_foundry.files import read_json
from pte_foundry.findings import Finding, did_you_mean, listed
from pte_foundry.quantize.schemes import Modules, Tables

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from pte_foundry.models.module import ModelModule


def convert(
    model: ModelModule,
    recipe: Mapping[str, Any],
    program: Path,
    statistics: Path | None,
    modules: Modules,
) -> dict[str, ExportedProgram]:
    """Return the quantized programs of ``model`` by method. Weights that methods share stay equal.

    Args:
        model: the module of the model: example inputs, dynamic shapes.
        recipe: its slice of the configuration; with ``shared: true`` (``slices.convert``), settings
            for names and types that this model lacks are allowed.
        program: the exported program, .pt2.
        statistics: the activation ranges that ``calibrate`` wrote; None for weight-only.
        modules: not used: the graph has them.
    """
    from pte_foundry.upstream.coremltools_imports import load_coremltools

    load_coremltools()
    from pte_foundry.models import programs
    from pte_foundry.quantize import pt2e

    found = programs.load_all(program)
    ranges = None if statistics is None else read_json(statistics)
    if len(found) == 1:
        ranges = dict.fromkeys(found, ranges)
    return {
        method: pt2e.convert(
            one,
            recipe,
            ranges and ranges[method],
            model.example_inputs(method),
            dynamic_shapes=model.dynamic_shapes(method=method),
        )
        for method, one in found.items()
    }


def findings(
    recipe_name: str, recipe: Mapping[str, Any], model_name: str, modules: Modules
) -> list[Finding]:
    """Return no findings: what the recipe quantizes depends on operators, not on modules."""
    return []


def unmatched(recipe_name: str, recipe: Mapping[str, Any], tables: Tables) -> list[Finding]:
    """Find modules and module types of the recipe that none of these models has."""
    rows = [module for modules in tables.values() for module in modules]
    models = listed(tables)
    found = []
    names = [row["name"] for row in rows if row["name"]]
    for name in recipe["module_name_configs"]:
        if name not in names:
            fix = did_you_mean(name, names, "correct or remove it")
            path = ("recipes", recipe_name, "module_name_configs", name)
            found.append(Finding(path, f"no such module in {models}", "names of modules", fix))
    types = {kind for row in rows for kind in (row["type"], *row["types"])}
    own = listed(sorted({row["type"] for row in rows}))
    for kind in recipe["module_type_configs"]:
        # Functions (torch.add, operator.add …) are not checked: only the graph shows them.
        if kind.rpartition(".")[2][:1].isupper() and kind not in types:
            fix = did_you_mean(kind, types, "correct or remove it")
            path = ("recipes", recipe_name, "module_type_configs", kind)
            found.append(Finding(path, f"no module of this type in {models}", own, fix))
    return found
