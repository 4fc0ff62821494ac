"""The scheme ``as_stored``: the integers that a model's file holds."""

from typing import Literal

from pydantic import Field

from pte_foundry.config.gates import PER_GROUP_SQNR
from pte_foundry.config.recipes.base import BaseRecipe
from pte_foundry.config.systems import IOS18


class AsStoredRecipe(BaseRecipe):
    """The weights as the model's file holds them, such as Q4_1 of a GGUF file."""

    scheme: Literal["as_stored"] = Field(
        description="Weights as the model's file holds them, not quantized again: a `decoder:` "
        "from a GGUF file with Q4_0, Q4_1 or Q8_0."
    )

    def oldest_version(self) -> tuple[int, str]:
        """Return the specification version of a scale per group."""
        return IOS18, "a scale per group"

    def sqnr_floors(self) -> list[float]:
        """Return the floor of eight bits: against the file's own weights only fp16 differs."""
        return [PER_GROUP_SQNR[8]]
