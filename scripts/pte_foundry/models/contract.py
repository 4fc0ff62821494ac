"""The names in a model's Python file that have a meaning; ``models.module`` documents them."""

REQUIRED = ("build",)
"""The functions that it must define."""

INPUTS = ("example_inputs", "methods")
"""The functions that show the inputs of a program; it must define one of them."""

OPTIONAL = (
    "evaluation",
    "calibration",
    "dynamic_shapes",
    "play",
    "score",
    "agreement",
    "output_names",
    "stored_weights",
    "constants",
    "train",
)
"""The functions that it may define."""

FUNCTIONS = (*REQUIRED, *INPUTS, *OPTIONAL)
"""All of them."""

RESERVED = frozenset(
    {"weights", "data", "outputs", "labels", "reference", "run", "sample", "shapes"}
)
"""Parameters that the stages pass; an option cannot have such a name."""
