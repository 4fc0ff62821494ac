"""The scheme ``pt2e``: 8-bit quantization of weights and activations, or of weights only.

Keys, values and defaults are those of ``LinearQuantizerConfig`` and ``ModuleLinearQuantizerConfig``
(coremltools 9.0, optimize/torch/quantization/quantization_config.py). Values that ExecuTorch's
Core ML quantizer cannot express are refused.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from pte_foundry.config.base import Strict, refusal, refuse
from pte_foundry.config.gates import AFFINE_SQNR, STATIC_ACTIVATIONS_SQNR
from pte_foundry.config.recipes.base import BaseRecipe, check_dotted
from pte_foundry.config.systems import IOS17
from pte_foundry.findings import Finding, KeyPath
from pte_foundry.quantize import schemes

_FOUR_BITS = (
    "ExecuTorch's Core ML quantizer supports only 8-bit weights",
    "for 4 bits, use a recipe with `scheme: quantize` and an affine int4 step",
)
_EMA = (
    "ExecuTorch's Core ML quantizer has no ema_min_max observer",
    "use moving_average_min_max, which is an exponential moving average too",
)
Observer = Annotated[
    Literal["moving_average_min_max", "min_max"],
    refuse({"ema_min_max": _EMA}, "moving_average_min_max, min_max"),
]


class LinearQuantizer(Strict):
    """8-bit linear quantization of some modules (coremltools' ModuleLinearQuantizerConfig)."""

    algorithm: Literal["vanilla", "learnable"] = Field(
        default="vanilla",
        description="Quantization algorithm. `learnable` differs only in QAT, which is not "
        "done here. One value for the whole recipe.",
    )
    quantization_scheme: Literal["symmetric", "affine"] = Field(
        default="symmetric",
        description="`symmetric`: weights have zero point 0, activations 0 or 128; `affine`: any "
        "zero point. One value for the whole recipe.",
    )
    weight_dtype: Annotated[
        Literal["qint8", "quint8", "float32"],
        refuse({"qint4": _FOUR_BITS, "quint4": _FOUR_BITS}, "qint8, quint8, float32"),
    ] = Field(
        default="qint8",
        description="Type of the weights. `float32` excludes the modules from quantization, their "
        "activations included, as upstream does.",
    )
    weight_per_channel: bool = Field(
        default=True, description="One scale per output channel (true) or per tensor (false)."
    )
    weight_observer: Observer = Field(
        default="moving_average_min_max", description="Observer of the range of the weights."
    )
    activation_dtype: Literal["quint8", "float32"] = Field(
        default="quint8",
        description="Type of the activations; `float32` is weight-only quantization.",
    )
    activation_observer: Observer = Field(
        default="moving_average_min_max",
        description="Observer of the range of the activations. A moving average depends on the "
        "order of the calibration samples, `min_max` does not.",
    )
    milestones: Annotated[list[int], Field(min_length=4, max_length=4)] | None = Field(
        default=None,
        description="Four training steps (enable observers, enable fake quantization, disable "
        "observers, freeze batch norm). Only used in QAT; ignored.",
    )

    @property
    def quantizes(self) -> bool:
        """Whether these modules are quantized at all (upstream: float32 weights mean no)."""
        return self.weight_dtype != "float32"

    def activations(self) -> dict[str, str] | None:
        """Return the settings that calibration reads; None if these modules stay in float."""
        if not self.quantizes:
            return None
        keys = ("quantization_scheme", "activation_dtype", "activation_observer")
        return {key: getattr(self, key) for key in keys}


def _samples(value: int) -> int:
    if value >= 1:
        return value
    raise refusal(
        "PT2E cannot quantize without calibration, not even weights alone",
        "an integer of at least 1, or null for all of the model's samples",
        "leave the key out",
    )


class Pt2eRecipe(BaseRecipe):
    """8-bit quantization with PT2E and ExecuTorch's Core ML quantizer; needs iOS17 / macOS14."""

    scheme: Literal["pt2e"] = Field(description="8-bit quantization by PT2E (iOS17+ / macOS14+).")
    global_config: LinearQuantizer | None = Field(
        default=LinearQuantizer(),
        description="Default for modules not matched below. `null`: only modules that are matched "
        "below are quantized.",
    )
    module_type_configs: dict[str, LinearQuantizer | None] = Field(
        default={},
        description="By type of module or function, with its full dotted name, e.g. "
        "`torch.nn.Linear`. Takes precedence over `global_config`. `null`: not quantized.",
    )
    module_name_configs: dict[str, LinearQuantizer | None] = Field(
        default={},
        description="By fully qualified name of a module, e.g. `features.0`; applies to its "
        "submodules too. Takes precedence over the two above. `null`: not quantized.",
    )
    optional: bool = Field(
        default=False,
        exclude=True,
        description="Whether the settings by type and name may match nothing, so that the recipe "
        "also fits models without these modules.",
    )
    non_traceable_module_names: list[str] = Field(
        default=[],
        description="Accepted for compatibility with upstream's LinearQuantizerConfig; has no "
        "effect with torch.export.",
    )
    preserved_attributes: list[str] = Field(
        default=[],
        description="Accepted for compatibility with upstream's LinearQuantizerConfig; has no "
        "effect with torch.export.",
    )
    calibration_samples: Annotated[int, AfterValidator(_samples)] | None = Field(
        default=None,
        description="How many of the model's calibration samples to use, at least 1; `null`: all.",
        json_schema_extra={"minimum": 1},
    )

    @property
    def parts(self) -> list[LinearQuantizer]:
        """Every part that is not ``null``."""
        named = [*self.module_type_configs.values(), *self.module_name_configs.values()]
        return [part for part in [self.global_config, *named] if part is not None]

    @property
    def calibrates(self) -> bool:
        """Whether any activation is quantized."""
        return any(p.quantizes and p.activation_dtype != "float32" for p in self.parts)

    @property
    def names_modules(self) -> bool:
        """Whether the recipe has settings by name or type."""
        return bool(self.module_name_configs or self.module_type_configs)

    def slice(self) -> dict[str, Any]:
        """Return what the scheme's conversion reads; see the base class."""
        return super().slice() | ({"shared": True} if self.optional else {})

    def unmatched_findings(self, name: str, tables: schemes.Tables) -> Iterator[Finding]:
        """Find names and types that match nothing, unless that is allowed."""
        if not self.optional:
            yield from super().unmatched_findings(name, tables)

    def calibration(self) -> dict[str, Any]:
        """Return what calibration reads: the activation settings and the number of samples."""
        named = {
            key: {name: part and part.activations() for name, part in getattr(self, key).items()}
            for key in ("module_type_configs", "module_name_configs")
        }
        everything = self.global_config and self.global_config.activations()
        return {
            "activations": {"global_config": everything, **named},
            "calibration_samples": self.calibration_samples,
        }

    def oldest_version(self) -> tuple[int, str]:
        """Return iOS17's specification version, the first with quantized activations."""
        return IOS17, "8-bit quantization by PT2E"

    def sqnr_floors(self) -> list[float]:
        """Return the floor of 8-bit weights and, if it calibrates, of 8-bit activations."""
        return [AFFINE_SQNR[8], *([STATIC_ACTIVATIONS_SQNR] if self.calibrates else [])]

    def findings(self, path: KeyPath) -> Iterator[Finding]:
        """Find parts that contradict one another, and names of the wrong form."""
        for key in ("algorithm", "quantization_scheme"):
            values = sorted({getattr(part, key) for part in self.parts})
            if len(values) > 1:
                problem = f"the parts of the recipe disagree on {key}: {' and '.join(values)}"
                fix = f"write the same {key} in all parts; a part without it has the default"
                yield Finding(path, problem, "one value for the whole recipe", fix)
        if not any(part.quantizes for part in self.parts):
            problem = "the recipe quantizes nothing: every part is null or has float32 weights"
            fix = "set weight_dtype to qint8 in a part, or use `scheme: none`"
            yield Finding(path, problem, "at least one part with 8-bit weights", fix)
        for kind in self.module_type_configs:
            yield from check_dotted((*path, "module_type_configs", kind), kind)
        for module in self.module_name_configs:
            if any(character in module for character in "*?["):
                problem = "this is a pattern; module names are not patterns here"
                fix = "name each module; a name covers the module's submodules too"
                yield Finding((*path, "module_name_configs", module), problem, "full names", fix)
