"""No compression: the exported program is lowered without conversion."""

from collections.abc import Mapping
from typing import Any

from pte_foundry.findings import Finding
from pte_foundry.quantize.schemes import Modules, Tables


def findings(
    recipe_name: str, recipe: Mapping[str, Any], model_name: str, modules: Modules
) -> list[Finding]:
    """Return no findings: the scheme fits every model."""
    return []


def unmatched(recipe_name: str, recipe: Mapping[str, Any], tables: Tables) -> list[Finding]:
    """Return no findings: the scheme names no modules."""
    return []
