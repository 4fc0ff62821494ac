"""Exports a model's module to a torch program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pte_foundry.errors import ModelError

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from pte_foundry.models.module import ModelModule


def export(model: ModelModule, module: nn.Module) -> ExportedProgram:
    """Exports ``module`` with the example inputs and dynamic shapes of ``model``.

    Raises:
        ModelError: ``torch.export`` failed; the message has its reason.
    """
    import torch

    # Parameters that require grad cannot be written to where ExecuTorch keeps a mutable buffer, and
    # nothing here computes gradients.
    module.requires_grad_(False)
    try:
        return torch.export.export(
            module, model.example_inputs(), dynamic_shapes=model.dynamic_shapes(), strict=False
        )
    except Exception as error:
        raise ModelError(
            f"{model.path}: torch.export could not trace the model: {error}"
        ) from error
