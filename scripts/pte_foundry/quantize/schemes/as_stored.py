"""Weights as the model's file holds them: integers of a GGUF file, not quantized again.

The model gives them by its function ``stored()`` (``models.stored``): of ``decoder:`` models from
GGUF files with Q4_0, Q4_1 and Q8_0. What the file holds in floating point stays so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pte_foundry.errors import ModelError
from pte_foundry.findings import Finding
from pte_foundry.quantize.schemes import Modules, Tables

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from pte_foundry.models.module import ModelModule
    from pte_foundry.models.stored import Stored


def convert(
    model: ModelModule,
    recipe: Mapping[str, Any],
    program: Path,
    statistics: Path | None,
    modules: Modules,
) -> ExportedProgram:
    """Return the program of ``model`` with the weights of its file; parameters as ``quantize``'s.

    Raises:
        ModelError: the model has no ``stored()``, or its weights are not those of the file.
    """
    from pte_foundry.models.export import export

    if not model.has("stored"):
        raise ModelError(
            f"{model.path}: there is no stored(), which returns the weights as integers; use a "
            "`decoder:` from a GGUF file, or another recipe"
        )
    return export(model, replaced(model.build(), model.call("stored")))


def replaced(module: nn.Module, stored: Mapping[str, Stored]) -> nn.Module:
    """Replaces weights in place by those that the file holds; returns the module.

    Raises:
        ModelError: a module has no such weight, or other values: scales of fp32 are exact.
    """
    import torch
    from torchao.quantization import IntxUnpackedToInt8Tensor

    for name, held in stored.items():
        try:
            owner = module.get_submodule(name)
            weight = owner.weight.detach()
        except AttributeError as error:
            raise ModelError(
                f"has no weight {name!r}, which its file holds as integers; build it without "
                "`split` and `split_head`"
            ) from error
        difference = (weight - held.values()).abs().max()
        if difference > 1e-4 * weight.abs().max():
            raise ModelError(f"has a weight {name!r} that is not the one of its file")
        owner.weight = torch.nn.Parameter(
            IntxUnpackedToInt8Tensor(
                qdata=held.codes,
                scale=held.scale,
                # Whole ones as integers, for which Core ML has a format without an offset.
                zero_point=held.zero if held.zero.any() else held.zero.to(torch.int8),
                target_dtype=getattr(torch, f"int{held.bits}"),
                block_size=(1, held.group),
                dtype=weight.dtype,
                activation_quantization=None,
            ),
            requires_grad=False,
        )
    return module


def findings(
    recipe_name: str, recipe: Mapping[str, Any], model_name: str, modules: Modules
) -> list[Finding]:
    """Return no findings: the weights decide, and are not read while planning."""
    return []


def unmatched(recipe_name: str, recipe: Mapping[str, Any], tables: Tables) -> list[Finding]:
    """Return no findings: the scheme names no modules."""
    return []
