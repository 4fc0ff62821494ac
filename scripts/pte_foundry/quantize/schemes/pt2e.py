"""8-bit quantization by PT2E with ExecuTorch's ``CoreMLQuantizer``: rewrites the exported graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pte_foundry.files import read_json
from pte_foundry.findings import Finding, did_you_mean, listed
from pte_foundry.quantize.schemes import Modules

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from pte_foundry.models.module import ModelModule


def convert(
    model: ModelModule, recipe: Mapping[str, Any], program: Path, statistics: Path | None
) -> ExportedProgram:
    """Return the quantized program of ``model``.

    Args:
        model: the module of the model: example inputs, dynamic shapes.
        recipe: its slice of the configuration (``Config.recipe``).
        program: the exported program, .pt2.
        statistics: the activation ranges that ``calibrate`` wrote; None for weight-only.
    """
    from pte_foundry.upstream.coremltools_imports import load_coremltools

    load_coremltools()
    from pte_foundry.models import programs
    from pte_foundry.quantize import pt2e

    return pt2e.convert(
        programs.load(program),
        recipe,
        None if statistics is None else read_json(statistics),
        model.example_inputs(),
        dynamic_shapes=model.dynamic_shapes(),
    )


def findings(
    recipe_name: str, recipe: Mapping[str, Any], model_name: str, modules: Modules
) -> list[Finding]:
    """Check that the model has the modules and module types that the recipe names."""
    return list(_findings(("recipes", recipe_name), recipe, model_name, modules))


def _findings(
    path: tuple, recipe: Mapping[str, Any], model: str, modules: Modules
) -> Iterator[Finding]:
    names = [module["name"] for module in modules if module["name"]]
    for name in recipe["module_name_configs"]:
        if name not in names:
            fix = did_you_mean(name, names, "correct or remove it")
            key = (*path, "module_name_configs", name)
            yield Finding(key, f"{model} has no such module", "names of its modules", fix)
    types = {kind for module in modules for kind in (module["type"], *module["types"])}
    for kind in recipe["module_type_configs"]:
        # Functions (torch.add, operator.add …) are not checked: only the graph shows them.
        is_module = kind.rpartition(".")[2][:1].isupper()
        if is_module and kind not in types:
            fix = did_you_mean(kind, types, "correct or remove it")
            key = (*path, "module_type_configs", kind)
            yield Finding(
                key,
                f"{model} has no module of this type",
                listed(sorted({module["type"] for module in modules})),
                fix,
            )
