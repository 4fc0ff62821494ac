"""Names that a Core ML program has for those of a model."""

import re


def identifier(name: str) -> str:
    """Return a name with dots as a name of a program: ``hidden_0``."""
    found = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return found if found.isidentifier() else f"_{found}"


def program_name(name: str) -> str:
    """Return the name that an input has inside of a program: torch writes it in lower case."""
    return identifier(name).lower()
