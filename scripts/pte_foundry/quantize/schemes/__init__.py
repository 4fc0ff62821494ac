"""The compression schemes, one module each, named like the scheme in a recipe.

A scheme module defines ``findings``, which checks a recipe against the modules of one model,
``unmatched``, which finds names and patterns that occur in no model built with the recipe, and
``convert``, which quantizes the model. It imports nothing heavy at its top, because planning calls
the first two. The code digest of a conversion contains the module of its recipe's scheme only.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

Module = Mapping[str, Any]
"""A row of ``models.structure.modules_table``: ``name`` (fully qualified), ``type`` (dotted name of
its class), ``types`` (of its bases too, aliases included), ``weight`` (shape or None), ``obstacle``
(why its weight cannot be quantized, or None; may be missing), ``stored`` (bits of the weight in the
model's file; missing if that has none)."""

Modules = Sequence[Module]

Tables = Mapping[str, Modules]
"""The modules of models, by name of the model."""


def name_of(scheme: str) -> str:
    """Return the dotted name of a scheme's module."""
    return f"{__name__}.{scheme}"


def load(scheme: str) -> ModuleType:
    """Import the module of a scheme."""
    return importlib.import_module(name_of(scheme))
