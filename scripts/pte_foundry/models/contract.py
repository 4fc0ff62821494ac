"""The names in a model's Python file that have a meaning; ``models.module`` documents them."""

REQUIRED = ("build", "example_inputs")
"""The functions that it must define."""

OPTIONAL = (
    "evaluation",
    "calibration",
    "dynamic_shapes",
    "score",
    "agreement",
    "output_names",
    "stored_weights",
    "train",
)
"""The functions that it may define."""

RESERVED = frozenset({"weights", "data", "outputs", "labels", "reference"})
"""Parameters that the stages pass; an option cannot have such a name."""
