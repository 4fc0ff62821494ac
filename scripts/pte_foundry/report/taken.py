"""Rows about the interface of an artifact: the shapes that it takes, and its states."""

from collections.abc import Iterator
from typing import Any

from pte_foundry.report.schema import SummaryRecord
from pte_foundry.validate.schema import Artifact


def shapes(artifact: Artifact) -> Iterator[tuple[str, Any]]:
    """Yield the inputs with more than one shape, one row for each method."""
    accepts = artifact.get("accepts", {})
    for method, inputs in accepts.items():
        yield "shapes taken" + (f" by {method}" if len(accepts) > 1 else ""), inputs


def states(build: SummaryRecord) -> str:
    """Return the names of the states; Core ML keeps them in fp16 whatever the precision."""
    names = ", ".join(build["artifact"]["states"])
    if names and build["target_details"].get("compute_precision") == "float32":
        return f"{names} (kept in float16)"
    return names or "none"
