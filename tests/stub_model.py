"""A model that needs no file."""

from typing import Any

import torch
from pte_foundry.models.layout import InputLayout
from pte_foundry.models.outputs import named_outputs
from pte_foundry.models.signatures import Resolved
from pte_foundry.models.sizes import Sizes
from torch import nn


class ModelOf:
    """What ``reference`` and ``export`` need of a model module.

    Args:
        module: what it builds, of one method and one input ``x``.
        example: the input.
    """

    path = "model.py"
    root = None
    plays = False
    shown_by = "example_inputs"
    first_method = "forward"

    def __init__(self, module: nn.Module, example: torch.Tensor) -> None:
        self.module, self.example = module, example
        self.layouts = {"forward": InputLayout((example,))}

    def build(self) -> nn.Module:
        return self.module

    def example_inputs(self, method: str | None = None) -> tuple[torch.Tensor]:
        return (self.example.clone(),)

    def resolve(self, module: nn.Module | None = None) -> dict[str, Resolved]:
        return {"forward": Resolved(Sizes.of(self.example_inputs(), ["x"], [None]), (None,))}

    def dynamic_shapes(self, module: nn.Module | None = None, method: str | None = None) -> None:
        return None

    def evaluation(self) -> tuple[list[tuple[torch.Tensor]], None]:
        """Of three samples, the first and the last are equal."""
        ones, zeros = torch.ones_like(self.example), torch.zeros_like(self.example)
        return [(ones,), (zeros,), (ones.clone(),)], None

    def run_named(
        self, module: nn.Module, sample: tuple[torch.Tensor], method: str | None = None
    ) -> tuple[torch.Tensor]:
        with torch.no_grad():
            return (module(*sample).clone(),)

    def input_names(self, module: nn.Module) -> list[str]:
        return self.layouts["forward"].names(module)

    def outputs_of(self, returned: Any, method: str) -> Any:
        return named_outputs(returned)
