"""Resolves the dotted names of module types and functions that a recipe's settings use."""

import importlib
from typing import Any

from pte_foundry.errors import ConfigError


def resolve(dotted: str) -> Any:
    """Returns the class or function of a dotted name: ``torch.nn.Linear``, ``operator.add`` …

    Raises:
        ConfigError: nothing importable has that name.
    """
    parts = dotted.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part, None)
        if callable(found):
            return found
        break
    raise ConfigError(
        f"{dotted!r} is not the dotted name of a module class or a function; "
        "write for example 'torch.nn.Linear', 'torch.nn.functional.relu' or 'operator.add'"
    )
