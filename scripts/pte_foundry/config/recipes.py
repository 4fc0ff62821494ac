"""The ``recipes`` section: how a model is compressed.

The keys, values and defaults are those of ``ModuleLinearQuantizerConfig`` (coremltools 9.0,
optimize/torch/quantization/quantization_config.py), ``IntxWeightOnlyConfig`` (torchao 0.18,
quantization/quant_api.py) and ``CodebookWeightOnlyConfig`` (torchao 0.18, prototype/quantization/
codebook_coreml/api.py); values which ExecuTorch's Core ML backend cannot lower are refused.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from pte_foundry.config.base import UNION, Strict, refusal, refuse
from pte_foundry.config.gates import Gates

_FOUR_BITS = (
    "ExecuTorch's Core ML quantizer maps only 8-bit weights",
    "use a recipe with `scheme: quantize` and an affine int4 step for 4 bits",
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
        description="Quantization algorithm. `learnable` only matters to training, of which "
        "there is none here. One value for the whole recipe.",
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
        description="Type of the weights. `float32` leaves the modules alone altogether, their "
        "activations too: that is how upstream reads it.",
    )
    weight_per_channel: bool = Field(
        default=True, description="One scale per output channel (true) or per tensor (false)."
    )
    weight_observer: Observer = Field(
        default="moving_average_min_max", description="How the range of the weights is found."
    )
    activation_dtype: Literal["quint8", "float32"] = Field(
        default="quint8",
        description="Type of the activations; `float32` quantizes the weights only.",
    )
    activation_observer: Observer = Field(
        default="moving_average_min_max",
        description="How the range of the activations is found. A moving average depends on the "
        "order of the calibration samples, `min_max` does not.",
    )
    milestones: Annotated[list[int], Field(min_length=4, max_length=4)] | None = Field(
        default=None,
        description="Four training steps (enable observers, enable fake quantization, disable "
        "observers, freeze batch norm). Only matters to training, of which there is none here.",
    )

    @property
    def quantizes(self) -> bool:
        """Whether these modules are quantized at all (upstream: float32 weights mean no)."""
        return self.weight_dtype != "float32"


def _samples(value: int) -> int:
    if value >= 1:
        return value
    raise refusal(
        "PT2E cannot quantize without calibration, not even weights alone",
        "a whole number of at least 1, or null for all of the model's samples",
        "leave the key out",
    )


class _AnyRecipe(Strict):
    gates: Gates = Field(
        default_factory=dict,
        description="Gates of this recipe's builds; they replace the top's, `null` removes one.",
    )

    @property
    def calibrates(self) -> bool:
        """Whether activations are quantized, so that calibration has something to measure."""
        return False

    def slice(self) -> dict[str, Any]:
        """Returns the recipe as its scheme reads it: plain data without gates."""
        return self.model_dump(mode="json", exclude={"gates"})


class NoneRecipe(_AnyRecipe):
    """No compression: the target's compute precision decides."""

    scheme: Literal["none"] = Field(description="No compression.")


class Pt2eRecipe(_AnyRecipe):
    """8-bit quantization with PT2E and ExecuTorch's Core ML quantizer; needs iOS17 / macOS14."""

    scheme: Literal["pt2e"] = Field(description="8-bit quantization by PT2E; iOS17+ / macOS14+.")
    global_config: LinearQuantizer | None = Field(
        default_factory=LinearQuantizer,
        description="For all modules that no type or name below speaks of. Absent: upstream's "
        "defaults. `null`: only what is named below is quantized.",
    )
    module_type_configs: dict[str, LinearQuantizer | None] = Field(
        default_factory=dict,
        description="By type of module or function, with its full dotted name, e.g. "
        "`torch.nn.Linear`. Wins over `global_config`. `null`: not quantized.",
    )
    module_name_configs: dict[str, LinearQuantizer | None] = Field(
        default_factory=dict,
        description="By fully qualified name of a module, e.g. `features.0`, which covers what is "
        "inside it. Wins over the two above. `null`: not quantized.",
    )
    non_traceable_module_names: list[str] = Field(
        default_factory=list,
        description="Kept for completeness of upstream's LinearQuantizerConfig; torch.export has "
        "no use for it.",
    )
    preserved_attributes: list[str] = Field(
        default_factory=list,
        description="Kept for completeness of upstream's LinearQuantizerConfig; torch.export has "
        "no use for it.",
    )
    calibration_samples: Annotated[int, AfterValidator(_samples)] | None = Field(
        default=None,
        description="How many of the model's calibration samples to use, at least 1; `null`: all.",
        json_schema_extra={"minimum": 1},
    )

    @property
    def parts(self) -> list[LinearQuantizer]:
        """Every part that is not ``null``."""
        by_name = [*self.module_type_configs.values(), *self.module_name_configs.values()]
        return [part for part in [self.global_config, *by_name] if part is not None]

    @property
    def calibrates(self) -> bool:
        """Whether any activation is quantized."""
        return any(p.quantizes and p.activation_dtype != "float32" for p in self.parts)

    def calibration(self) -> dict[str, Any]:
        """Returns what calibration reads: the activation settings and the number of samples."""
        by_key = {
            key: {name: _activations(part) for name, part in getattr(self, key).items()}
            for key in ("module_type_configs", "module_name_configs")
        }
        return {
            "activations": {"global_config": _activations(self.global_config), **by_key},
            "calibration_samples": self.calibration_samples,
        }


def _activations(part: LinearQuantizer | None) -> dict[str, str] | None:
    if part is None or not part.quantizes:
        return None
    keys = ("quantization_scheme", "activation_dtype", "activation_observer")
    return {key: getattr(part, key) for key in keys}


class PerAxis(Strict):
    """One scale per output row."""

    axis: Literal[0] = Field(description="The axis that keeps its own scales; Core ML: 0 only.")


class PerGroup(Strict):
    """One scale per group of values within a row; needs iOS18 / macOS15."""

    group_size: int = Field(
        ge=1, description="Values per group; must divide the columns of every weight it meets."
    )


def _granularity_kind(value: Any) -> str:
    # A dict while it is read, one of the two classes while it is written.
    keys = value if isinstance(value, dict) else getattr(type(value), "model_fields", {})
    return UNION + ("group" if any(str(key).startswith("group") for key in keys) else "axis")


_WIDTHS = {
    f"int{bits}": (
        f"Core ML has no linear quantization with {bits} bits",
        "use int4 or int8, or a codebook step, which has 1 to 8 bits",
    )
    for bits in (1, 2, 3, 5, 6, 7)
}
_SCALES = {
    "bfloat16": ("Core ML has no bfloat16", "use float16 or float32, or null for the weight's")
}


class Affine(Strict):
    """Linear quantization of weights (torchao's IntxWeightOnlyConfig)."""

    weight_dtype: Annotated[Literal["int4", "int8"], refuse(_WIDTHS, "int4, int8")] = Field(
        default="int8", description="Type of the weights; int4 needs iOS18 / macOS15."
    )
    granularity: Annotated[
        Annotated[PerAxis, Tag(UNION + "axis")] | Annotated[PerGroup, Tag(UNION + "group")],
        Discriminator(_granularity_kind),
    ] = Field(
        default=PerAxis(axis=0),
        description="`{axis: 0}`: a scale per row; `{group_size: N}`: a scale per group.",
    )
    mapping_type: Literal["symmetric", "asymmetric", "symmetric_no_clipping_err"] = Field(
        default="symmetric",
        description="How the range maps to integers; `asymmetric` has zero points.",
    )
    scale_dtype: Annotated[
        Literal["float16", "float32"] | None, refuse(_SCALES, "null, float16, float32")
    ] = Field(default=None, description="Type of the scales; `null`: the weight's.")
    intx_packing_format: Literal["unpacked_to_int8"] = Field(
        default="unpacked_to_int8", description="Layout inside torchao; it has only this one."
    )
    intx_choose_qparams_algorithm: Literal["affine", "hqq_scale_only"] = Field(
        default="affine",
        description="How scales are chosen: from the range, or by the HQQ search (slower, often "
        "better; always symmetric).",
    )
    version: Literal[2] = Field(
        default=2, description="Version of torchao's config class; it has only this one."
    )


def _block_size(value: list[int]) -> list[int]:
    if len(value) == 2 and all(size == -1 or size >= 1 for size in value):
        return value
    raise refusal(
        "this is not a block of a weight matrix",
        "[rows, columns], each -1 (all of them) or at least 1",
        "e.g. [-1, -1] for one table per tensor, [16, -1] for one per 16 rows",
    )


class Codebook(Strict):
    """Look-up tables found by k-means (torchao's CodebookWeightOnlyConfig); iOS18 / macOS15."""

    dtype: Literal["uint1", "uint2", "uint3", "uint4", "uint5", "uint6", "uint7", "uint8"] = Field(
        description="Type of the indices: 1 to 8 bits, 2 to 256 values per table."
    )
    block_size: Annotated[list[int], AfterValidator(_block_size)] = Field(
        description="[rows, columns] that share one table; -1: all of them. At least one of the "
        "two must span the weight; the other must divide it.",
        json_schema_extra={"minItems": 2, "maxItems": 2},
    )


class ModuleFilter(Strict):
    """Chooses modules by type and by name; a module must pass both."""

    types: list[str] = Field(
        default=["torch.nn.Linear", "torch.nn.Embedding"],
        min_length=1,
        description="Full dotted names of module classes; subclasses count.",
    )
    names: list[str] = Field(
        default=["*"],
        min_length=1,
        description="Patterns (`*`, `?`, `[…]`) for fully qualified names.",
    )
    exclude: list[str] = Field(
        default_factory=list, description="Patterns of names to leave alone in spite of that."
    )


class Step(Strict):
    """One pass of torchao's `quantize_`; has exactly one of `affine` and `codebook`."""

    modules: ModuleFilter = Field(
        default_factory=ModuleFilter, description="Which modules; each step must find one."
    )
    affine: Affine | None = Field(default=None, description="Linear quantization.")
    codebook: Codebook | None = Field(default=None, description="Look-up tables.")

    def slice(self) -> dict[str, Any]:
        """Returns the step as ``quantize.weight_only`` reads it: filter and config on one level."""
        scheme = "affine" if self.codebook is None else "codebook"
        config = getattr(self, scheme)
        return {
            "scheme": scheme,
            **self.modules.model_dump(mode="json"),
            **config.model_dump(mode="json"),
        }


class QuantizeRecipe(_AnyRecipe):
    """Compression of the weights of linears and embeddings with torchao's `quantize_`."""

    scheme: Literal["quantize"] = Field(description="Weight compression by torchao's `quantize_`.")
    steps: list[Step] = Field(
        min_length=1, description="Carried out in this order, each on its own modules."
    )

    def slice(self) -> dict[str, Any]:
        """Returns the recipe as its scheme reads it: plain data without gates."""
        return {"scheme": self.scheme, "steps": [step.slice() for step in self.steps]}


SCHEMES = {"none": NoneRecipe, "pt2e": Pt2eRecipe, "quantize": QuantizeRecipe}
Recipe = Annotated[NoneRecipe | Pt2eRecipe | QuantizeRecipe, Field(discriminator="scheme")]
