"""Gates: the thresholds that a validation must meet."""

from typing import Annotated, Literal

from pydantic import Field

from pte_foundry.config.base import Strict


class Gate(Strict):
    """A threshold for one metric of the validation report."""

    min: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        default=None, description="The metric must not be below this."
    )
    max: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        default=None, description="The metric must not be above this."
    )
    on_fail: Literal["fail", "warn"] = Field(
        default="fail",
        description="`fail`: a missed gate fails the build's status and the run; `warn`: it is "
        "only reported.",
    )


Gates = dict[str, Gate | None]
"""Metric to gate; ``null`` removes the gate that an outer level or a default has set."""


def merged_gates(*layers: Gates) -> dict[str, Gate]:
    """Lay gates over one another, outermost first: a later one replaces, ``null`` removes."""
    merged: Gates = {}
    for layer in layers:
        merged |= layer
    return {metric: gate for metric, gate in sorted(merged.items()) if gate is not None}
