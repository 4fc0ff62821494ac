"""The configuration as a whole: its sections, and the ``builds`` section."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from pte_foundry.config.base import Name, Strict, refusal
from pte_foundry.config.devices import Device, Interpreter
from pte_foundry.config.gates import Gates
from pte_foundry.config.models import Model
from pte_foundry.config.recipes import Recipe
from pte_foundry.config.targets import Target


class Exclude(Strict):
    """Combinations to leave out: all builds that match every key set here."""

    model: str | None = Field(default=None, description="Name of a model.")
    recipe: str | None = Field(default=None, description="Name of a recipe.")
    target: str | None = Field(default=None, description="Name of a target.")


def _names(value: Any) -> Any:
    if value == "*" or (
        isinstance(value, list) and value and all(isinstance(name, str) for name in value)
    ):
        return value
    raise refusal(
        "expected a list of names",
        'a list of at least one name, or "*" for all',
        f"write [{value}]" if isinstance(value, str) else "write [NAME, NAME]",
    )


Names = Annotated[Literal["*"] | list[str], BeforeValidator(_names)]


class BuildMatrix(Strict):
    """Every combination of the models, recipes and targets named here."""

    models: Names = Field(description='A list of models, or "*" for all.')
    recipes: Names = Field(description='A list of recipes, or "*" for all.')
    targets: Names = Field(description='A list of targets, or "*" for all.')
    exclude: list[Exclude] = Field(default=[], description="Combinations to leave out.")
    gates: Gates = Field(default={}, description="Gates of these builds.")


def _something_to_build(value: Any) -> Any:
    if isinstance(value, list) and value:
        return value
    raise refusal(
        "there is nothing to build",
        "a list of at least one {models, recipes, targets}",
        'write what to build, e.g. `builds: [{models: "*", recipes: "*", targets: "*"}]`',
    )


def _validated_somewhere(value: Any) -> Any:
    if value == {}:
        raise refusal(
            "without a device no build would be validated",
            "at least one device",
            "remove the key to validate with the interpreter on this machine, or write "
            "`devices: {host: {kind: interpreter}}`",
        )
    return value


class Document(Strict):
    """Configuration of pte-foundry."""

    extends: str | None = Field(
        default=None,
        min_length=1,
        description="Another config, over which this one is laid: `default`, or the path of a "
        "file. Mappings are merged key by key, and anything else, such as the list of `builds`, "
        "is replaced. Without this key a config with models, recipes, targets and builds stands "
        "alone, and one that lacks any of them extends the default config.",
    )
    models: dict[Name, Model] = Field(min_length=1, description="Networks to build, by name.")
    recipes: dict[Name, Recipe] = Field(min_length=1, description="Compression recipes, by name.")
    targets: dict[Name, Target] = Field(min_length=1, description="Deployment targets, by name.")
    builds: Annotated[list[BuildMatrix], BeforeValidator(_something_to_build)] = Field(
        min_length=1,
        description="What to build: every entry is a matrix of combinations. No combination may "
        "occur twice.",
    )
    gates: Gates = Field(
        default={},
        description="Gates of all builds. They replace the scheme's default gates metric by "
        "metric; a recipe's gates replace these, and a build's gates those. `null` removes one.",
    )
    devices: Annotated[dict[Name, Device], BeforeValidator(_validated_somewhere)] = Field(
        default={"host": Interpreter(kind="interpreter")},
        min_length=1,
        description="Where every build is validated.",
    )
    divergence: bool = Field(
        default=False,
        description="Include per-layer error reports of all builds on the page. One such report: "
        "`snakemake results/divergence/MODEL/RECIPE/TARGET.json`.",
    )
