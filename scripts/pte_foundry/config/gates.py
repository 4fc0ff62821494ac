"""Gates: the thresholds that a validation must meet, and the SQNR that sound builds reach."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from pte_foundry.config.base import Strict, refusal

METRIC_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"

# Lowest SQNR in dB (.pte against the fp32 reference) that a sound build of a real network reaches.
# Only a wrong program falls below these; a tighter, model-specific gate belongs in the config.
UNCOMPRESSED_SQNR = {"float32": 90.0, "float16": 45.0}
"""By the compute precision of the Core ML program."""

STATIC_ACTIVATIONS_SQNR = 12.0
"""With statically quantized 8-bit activations."""

AFFINE_SQNR = {8: 18.0, 4: 5.0}
"""With linearly quantized weights, by bits."""

PER_GROUP_SQNR = {8: 18.0, 4: 10.0}
"""The same with one scale per group of values."""

STORED_SQNR = 40.0
"""With the quantized weights of the model's file: only scales and zero points are rounded."""

PALETTIZED_SQNR = {8: 25.0, 7: 22.0, 6: 16.0, 5: 15.0, 4: 10.0, 3: 3.0, 2: 1.0, 1: 1.0}
"""With palettized weights (look-up tables), by bits of an index.

All floors are above 0 dB, which is what an output of zeros has. One or two bits may well be worse
than that (MiniLM: -0.2 dB with two bits, -2.6 dB with one): whoever ships such a build lowers its
gate.
"""

EQUAL_FRACTION = {"float32": 0.99, "float16": 0.9}
"""Share of equal values that an integer or boolean output reaches, by compute precision.

An argmax or a comparison flips where two values are nearly equal; in fp16, MobileNetV2 chooses
another class for one photograph of thirty.
"""

COMPRESSED_EQUAL_FRACTION = 0.5
"""The same for compressed weights or activations."""

COMMON_METRICS = (
    "sqnr_db",
    "cosine",
    "max_abs_error",
    "top1_agreement",
    "equal_fraction",
    "worst_sqnr_db",
    "bytes",
    "delegated_fraction",
    "hazards",
)
"""Metrics of every validation; ``validate.schema.GateValues`` has their meanings."""


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
        description="`fail`: a missed gate fails the build and the run; `warn`: it is only "
        "reported.",
    )
    optional: bool = Field(
        default=False,
        description="If true, the gate does not apply to models without the metric; otherwise they "
        "are refused, or fail.",
    )

    @model_validator(mode="after")
    def _limits(self) -> "Gate":
        if self.min is None and self.max is None:
            fix = "add min or max, or write null to remove the gate"
            raise refusal("the gate has no limit", "min, max or both", fix)
        if self.min is not None and self.max is not None and self.min > self.max:
            raise refusal("min is greater than max", "min ≤ max", "swap the two")
        return self


def _metric(value: str) -> str:
    if re.fullmatch(METRIC_PATTERN, value):
        return value
    raise refusal(
        "this is not the name of a metric",
        "letters, digits and `_`, not starting with a digit",
        "use the metric's name in the validation report, e.g. sqnr_db",
    )


Metric = Annotated[
    str, AfterValidator(_metric), Field(json_schema_extra={"pattern": METRIC_PATTERN})
]
Gates = dict[Metric, Gate | None]
"""Metric to gate; ``null`` removes the gate that an outer level or a default has set."""


def merged_gates(*layers: Gates) -> dict[str, Gate]:
    """Merge gates, outermost layer first: a later gate replaces an earlier, ``null`` removes it."""
    merged: Gates = {}
    for layer in layers:
        merged |= layer
    return {metric: gate for metric, gate in sorted(merged.items()) if gate is not None}
