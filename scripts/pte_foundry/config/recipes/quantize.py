"""The scheme ``quantize``: weight-only quantization and palettization of linears and embeddings.

An ordered list of steps, each with a filter of modules and one of torchao's configurations.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from pte_foundry.config.base import Strict
from pte_foundry.config.gates import (
    AFFINE_SQNR,
    PALETTIZED_SQNR,
    PER_GROUP_SQNR,
    STORED_SQNR,
)
from pte_foundry.config.recipes.base import BaseRecipe, check_dotted
from pte_foundry.config.recipes.torchao_configs import Affine, Codebook, PerGroup, Shortened
from pte_foundry.config.systems import IOS16, IOS18
from pte_foundry.findings import Finding, KeyPath, listed
from pte_foundry.quantize import schemes


class Stored(Strict):
    """The numbers of the model's file, without another rounding; needs iOS18 / macOS15.

    The model must have them: GGUF files of the types Q4_0, Q4_1 and Q8_0 do.
    """


class ModuleFilter(Strict):
    """Selects modules by type and by name; a module must match both."""

    types: list[str] = Field(
        default=["torch.nn.Linear", "torch.nn.Embedding"],
        min_length=1,
        description="Full dotted names of module classes; subclasses match too, unless they read "
        "their weight other than by a linear or an embedding.",
    )
    names: list[str] = Field(
        default=["*"],
        min_length=1,
        description="Patterns (`*`, `?`, `[…]`) for fully qualified names; each must match a "
        "module of at least one of the models that are built with the recipe.",
    )
    exclude: list[str] = Field(default=[], description="Name patterns to exclude, as in `names`.")


_SCHEMES = ("affine", "codebook", "stored")


class Step(Strict):
    """One pass over the weights; has exactly one of `affine`, `codebook` and `stored`."""

    modules: ModuleFilter = Field(
        default=ModuleFilter(),
        description="Which modules to compress.",
    )
    optional: bool = Field(
        default=False,
        description="Whether the step may compress nothing, in models without modules that fit it. "
        "At least one step must compress something.",
    )
    affine: Affine | None = Field(default=None, description="Linear quantization.")
    codebook: Codebook | None = Field(default=None, description="Palettization.")
    stored: Stored | None = Field(
        default=None, description="Quantized weights of the model's file, as they are: `{}`."
    )

    @property
    def _given(self) -> list[str]:
        """The schemes of the step: exactly one, once it is checked."""
        return [scheme for scheme in _SCHEMES if getattr(self, scheme) is not None]

    def slice(self) -> dict[str, Any]:
        """Return the step as ``quantize.weight_only`` reads it: filter and config on one level."""
        scheme = self._given[0]
        config = getattr(self, scheme)
        return {
            "scheme": scheme,
            "optional": self.optional,
            **self.modules.model_dump(mode="json"),
            **config.model_dump(mode="json"),
        }

    def oldest_version(self) -> tuple[int, str]:
        """Return the lowest specification version that can express it, and what requires that."""
        if self.codebook:
            return IOS18, "a look-up table (codebook)"
        if self.stored:
            return IOS18, "a scale per group, with which files store weights"
        if self.affine and self.affine.weight_dtype == "int4":
            return IOS18, "4-bit weights"
        if self.affine and isinstance(self.affine.granularity, PerGroup):
            return IOS18, "a scale per group"
        return IOS16, "8-bit weights with a scale per channel"

    def sqnr_floor(self) -> float:
        """Return the SQNR in dB that sound builds reach with this compression."""
        if self.codebook:
            return PALETTIZED_SQNR[int(self.codebook.dtype.removeprefix("uint"))]
        if self.stored:
            return STORED_SQNR
        grouped = isinstance(self.affine.granularity, PerGroup)
        floors = PER_GROUP_SQNR if grouped else AFFINE_SQNR
        return floors[int(self.affine.weight_dtype.removeprefix("int"))]

    def findings(self, path: KeyPath) -> Iterator[Finding]:
        """Find contradictions within the step; ``path`` is its key path."""
        given = self._given
        if len(given) != 1:
            problem = f"the step has {listed(given) if given else 'no config'}"
            fix = "make a step of each" if given else "write e.g. `affine: {weight_dtype: int8}`"
            yield Finding(path, problem, f"one of {', '.join(_SCHEMES)}", fix)
        for at, kind in enumerate(self.modules.types):
            yield from check_dotted((*path, "modules", "types", at), kind)
        if self.affine is None or self.affine.mapping_type == "symmetric":
            return
        if self.affine.intx_choose_qparams_algorithm == "hqq_scale_only":
            problem = "hqq_scale_only has no zero points and would ignore the mapping type"
            fix = "leave mapping_type out, or use the affine algorithm"
            key = (*path, "affine", "mapping_type")
            yield Finding(key, problem, "symmetric", fix, self.affine.mapping_type)


class QuantizeRecipe(BaseRecipe):
    """Weight-only compression of linears and embeddings with torchao's `quantize_`."""

    scheme: Literal["quantize"] = Field(
        description="Weight-only quantization or palettization by torchao's `quantize_`."
    )
    steps: list[Step] = Field(
        min_length=1,
        description="Run in this order. The first step that matches a module and fits the shape of "
        "its weight compresses it. What no step compresses is in the report (`weights`).",
    )

    @property
    def names_modules(self) -> bool:
        """Whether a step selects or excludes modules by name."""
        return any(step.modules.exclude or step.modules.names != ["*"] for step in self.steps)

    def slice(self) -> dict[str, Any]:
        """Return what the scheme's conversion reads: plain data, defaults included, no gates."""
        return {"scheme": self.scheme, "steps": [step.slice() for step in self.steps]}

    def structure_findings(
        self, name: str, model: str, modules: schemes.Modules
    ) -> Iterator[Finding]:
        """Check the recipe against the modules of a model; see the base class."""
        for finding in super().structure_findings(name, model, modules):
            head, inner = finding.path[:5], finding.path[5:]  # recipes.NAME.steps[AT].affine
            config = getattr(self.steps[int(head[3])], str(head[4]), None)
            if isinstance(config, Shortened):
                finding = replace(finding, path=(*head, *config.written(inner)))
            yield finding

    def oldest_version(self) -> tuple[int, str]:
        """Return the specification version of the step that needs the newest."""
        return max((step.oldest_version() for step in self.steps), key=lambda need: need[0])

    def sqnr_floors(self) -> list[float]:
        """Return the floor of every step."""
        return [step.sqnr_floor() for step in self.steps]

    def findings(self, path: KeyPath) -> Iterator[Finding]:
        """Find contradictions within each step."""
        for index, step in enumerate(self.steps):
            yield from step.findings((*path, "steps", index))
