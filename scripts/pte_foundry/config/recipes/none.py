"""The scheme ``none``: no compression."""

from typing import Literal

from pydantic import Field

from pte_foundry.config.recipes.base import BaseRecipe


class NoneRecipe(BaseRecipe):
    """No compression: the target's compute precision decides."""

    scheme: Literal["none"] = Field(description="No compression.")
