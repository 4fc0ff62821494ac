"""Checks of the names that become file names."""

from collections.abc import Iterator

from pte_foundry.config.parse import Parsed
from pte_foundry.findings import Finding, KeyPath


def check_names(parsed: Parsed) -> Iterator[Finding]:
    """Find names that differ only in case, and data with the name of the weights."""
    groups: dict[KeyPath, list[str]] = {(key,): names for key, names in parsed.declared.items()}
    for model, entry in parsed.document.models.items():
        groups["models", model, "data"] = list(entry.data)
        if "weights" in entry.data:
            path = ("models", model, "data", "weights")
            problem = "the name `weights` is reserved for the model's weights"
            yield Finding(path, problem, "another name", "rename it")
    for path, names in groups.items():
        first: dict[str, str] = {}
        for name in names:
            other = first.setdefault(name.lower(), name)
            if other != name:
                problem = f"the name differs from {other} only in case: one file on a Mac"
                allowed = "names that differ in more than case"
                yield Finding((*path, name), problem, allowed, "rename one of the two", name)
