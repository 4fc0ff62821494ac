"""The interface of a scheme: the base class of all recipes, and checks that schemes share."""

import re
from collections.abc import Iterator
from typing import Any

from pydantic import Field

from pte_foundry.config.base import Strict
from pte_foundry.config.gates import Gates
from pte_foundry.config.systems import IOS16
from pte_foundry.findings import Finding, KeyPath
from pte_foundry.quantize import schemes

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_DYNAMIC_FIX = (
    "use PT2E static quantization (`scheme: pt2e`, activation_dtype quint8: the default config's "
    "int8_static), or weight-only quantization"
)


class BaseRecipe(Strict):
    """How a model is compressed. A scheme is a subclass, and overrides what is different for it.

    A scheme that calibrates also has a field ``calibration_samples`` and a method ``calibration``,
    which returns what the stage ``calibrate`` reads of the recipe.
    """

    scheme: str = Field(description="The scheme.")
    gates: Gates = Field(
        default={},
        description="Gates of this recipe's builds. They replace the top-level ones metric by "
        "metric; `null` removes one.",
    )

    @property
    def calibrates(self) -> bool:
        """Whether activations are quantized, so that their ranges must be calibrated."""
        return False

    @property
    def names_modules(self) -> bool:
        """Whether the recipe has settings for modules that a model may lack."""
        return False

    def oldest_version(self) -> tuple[int, str]:
        """Return the lowest specification version that can express it, and what requires that."""
        return IOS16, "an uncompressed program"

    def sqnr_floors(self) -> list[float]:
        """Return, for every kind of compression in it, the SQNR in dB that sound builds reach."""
        return []

    def findings(self, path: KeyPath) -> Iterator[Finding]:
        """Find contradictions within the recipe; ``path`` is its key path."""
        yield from ()

    def slice(self) -> dict[str, Any]:
        """Return what the scheme's conversion reads: plain data, defaults included, no gates."""
        return self.model_dump(mode="json", exclude={"gates"})

    def structure_findings(
        self, name: str, model: str, modules: schemes.Modules
    ) -> Iterator[Finding]:
        """Check the recipe against the modules of a model; ``name`` is the recipe's name."""
        yield from schemes.load(self.scheme).findings(name, self.slice(), model, modules)

    def unmatched_findings(self, name: str, tables: schemes.Tables) -> Iterator[Finding]:
        """Find names and patterns that match no module of any of the recipe's models."""
        yield from schemes.load(self.scheme).unmatched(name, self.slice(), tables)


def check_dotted(path: KeyPath, kind: str) -> Iterator[Finding]:
    """Find names of classes or functions that do not start with a package."""
    if not _DOTTED.fullmatch(kind):
        problem = "this is not the full dotted name of a class or function"
        fix = f"did you mean torch.nn.{kind}?" if kind.isidentifier() else "e.g. torch.nn.Linear"
        yield Finding(path, problem, "package.module.Name", fix, kind)


def dynamic_requests(value: Any, path: KeyPath) -> Iterator[Finding]:
    """Find every request for dynamic activation quantization, under whatever key it is made.

    It searches unvalidated data, because users may use keys and values that do not exist here.
    Names of modules, types and metrics are no requests.
    """
    problem = "Core ML has no dynamic quantization of activations"
    allowed = "static quantization, or weight-only"
    if isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, dict):
                yield from dynamic_requests(item, (*path, index))
    holds_names = bool(path) and str(path[-1]).endswith("_configs")
    for key, inner in value.items() if isinstance(value, dict) else ():
        below = (*path, str(key))
        named = not holds_names and "dynamic" in str(key).lower()
        requested = named and inner not in (False, None)
        if requested or (isinstance(inner, str) and "dynamic" in inner.lower()):
            yield Finding(below, problem, allowed, _DYNAMIC_FIX, inner)
        elif key not in ("modules", "gates"):
            yield from dynamic_requests(inner, below)
