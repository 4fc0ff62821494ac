"""The configuration as a whole, as the JSON Schema and config/README.md describe it."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from pte_foundry.config.base import Strict, refusal
from pte_foundry.config.gates import Gates
from pte_foundry.config.models import Model
from pte_foundry.config.recipes import Recipe
from pte_foundry.config.targets import Target

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
LONGEST_NAME = 100
METRIC_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"

_LATER = "only the interpreter on this machine validates for now"


def _device_kind(value: object) -> object:
    if isinstance(value, str) and value != "interpreter":
        raise refusal(
            f"there are no devices of this kind yet: {_LATER}",
            "interpreter",
            "leave `devices` out, or write `host: {kind: interpreter}`",
        )
    return value


class Interpreter(Strict):
    """Our interpreter, which executes the bytes of the `.pte` on this machine."""

    kind: Annotated[Literal["interpreter"], BeforeValidator(_device_kind)] = Field(
        description="How the validation runs; `interpreter` is the only kind so far."
    )


class Exclude(Strict):
    """Combinations to leave out: all builds that match every key given here."""

    model: str | None = Field(default=None, description="Name of a model.")
    recipe: str | None = Field(default=None, description="Name of a recipe.")
    target: str | None = Field(default=None, description="Name of a target.")


def _names(value: object) -> object:
    if value == "*" or (
        isinstance(value, list) and value and all(isinstance(name, str) for name in value)
    ):
        return value
    raise refusal(
        "this is neither a list of names nor all of them",
        'a list of at least one name, or "*" for all',
        f"write [{value}]" if isinstance(value, str) else "write [NAME, NAME]",
    )


Names = Annotated[Literal["*"] | list[str], BeforeValidator(_names)]


class BuildMatrix(Strict):
    """Every combination of the models, recipes and targets named here."""

    models: Names = Field(description='A list of models, or "*" for all.')
    recipes: Names = Field(description='A list of recipes, or "*" for all.')
    targets: Names = Field(description='A list of targets, or "*" for all.')
    exclude: list[Exclude] = Field(default_factory=list, description="What to leave out.")
    gates: Gates = Field(default_factory=dict, description="Gates of these builds.")


class Document(Strict):
    """Configuration of pte-foundry."""

    models: dict[str, Model] = Field(description="The networks, by name.")
    recipes: dict[str, Recipe] = Field(description="The ways to compress them, by name.")
    targets: dict[str, Target] = Field(description="The places they shall run, by name.")
    builds: list[BuildMatrix] = Field(
        min_length=1, description="What to build: every entry is a matrix; each build is made once."
    )
    gates: Gates = Field(
        default_factory=dict,
        description="Gates of all builds, over the defaults of the scheme. A recipe's gates "
        "replace them metric by metric, a build's replace those; `null` removes one.",
    )
    devices: dict[str, Interpreter] = Field(
        default_factory=lambda: {"host": Interpreter(kind="interpreter")},
        description="Where every build is validated.",
    )
    divergence: bool = Field(
        default=False,
        strict=True,
        description="Whether the page tells of every build in which layers its error arises. "
        "Without it `snakemake results/divergence/MODEL/RECIPE/TARGET.json` makes one such report.",
    )
