"""No compression: the exported program is lowered as it is, and nothing is converted."""

from collections.abc import Mapping
from typing import Any

from pte_foundry.findings import Finding
from pte_foundry.quantize.schemes import Modules


def findings(
    recipe_name: str, recipe: Mapping[str, Any], model_name: str, modules: Modules
) -> list[Finding]:
    """Returns nothing: every model can stay as it is."""
    return []
