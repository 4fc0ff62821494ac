"""What a step of the scheme ``quantize`` does to weights: torchao's two classes of configurations.

Keys, values and defaults are those of ``IntxWeightOnlyConfig`` (torchao 0.18, quantization/
quant_api.py) and ``CodebookWeightOnlyConfig`` (torchao 0.18, prototype/quantization/
codebook_coreml/api.py), and short forms. Values that ExecuTorch's Core ML backend cannot lower are
refused.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from pte_foundry.config.base import Strict, one_of, refusal, refuse
from pte_foundry.findings import KeyPath


class PerAxis(Strict):
    """Per-channel quantization: one scale per output channel, which is a row of the weight."""

    axis: Literal[0] = Field(description="The axis with one scale per index; Core ML: 0 only.")


class PerGroup(Strict):
    """Per-block quantization: one scale per group of values in a row; needs iOS18 / macOS15."""

    group_size: int = Field(
        ge=1,
        description="Values per group. It must divide the columns of a weight: others are left to "
        "later steps, or in floating point.",
    )


class Shortened(Strict):
    """Options of torchao that have a short form each, which stands for one of their values.

    Attributes:
        SHORT: for every short form the option, and its value for a value of the short form.
    """

    SHORT: ClassVar[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, value: Any) -> Any:
        given = value if isinstance(value, dict) else {}
        for short, (option, meant) in cls.SHORT.items():
            if given.get(short) is None:
                continue
            if option in given:
                problem = f"`{short}` is short for `{option}`, which is there as well"
                raise refusal(problem, "one of the two", "remove one of them", at=short)
            value = {**value, option: meant(given[short])}
        return value

    def written(self, path: KeyPath) -> KeyPath:
        """Return the path of an option below this one as the config writes it."""
        for short, (option, _) in self.SHORT.items():
            if path[:1] == (option,) and getattr(self, short) is not None:
                return (short,)
        return path


def _short(description: str) -> Any:
    """Define a short form: an artifact depends only on the option that it stands for."""
    return Field(default=None, exclude=True, description=description)


def _granularity(value: Any) -> str:
    keys = value if isinstance(value, Mapping) else ()
    return "group" if any(str(key).startswith("group") for key in keys) else "axis"


_WIDTHS = {
    f"int{bits}": (
        f"Core ML has no linear quantization with {bits} bits",
        "use int4 or int8, or a codebook step, which supports 1 to 8 bits",
    )
    for bits in (1, 2, 3, 5, 6, 7)
}
_BITS = {int(width.removeprefix("int")): reason for width, reason in _WIDTHS.items()}
_SCALES = {
    "bfloat16": ("Core ML has no bfloat16", "use float16 or float32, or null for the weight's")
}


def _either(*pairs: tuple[str, str]) -> ConfigDict:
    """Say in the schema that one key of each pair is required."""

    def extra(made: dict[str, Any]) -> None:
        made["required"] = [key for key in made["required"] if key not in dict(pairs)]
        made["allOf"] = [{"anyOf": [{"required": [key]} for key in pair]} for pair in pairs]

    return ConfigDict(json_schema_extra=extra)


class Affine(Shortened):
    """Weight-only linear quantization (torchao's IntxWeightOnlyConfig)."""

    SHORT: ClassVar = {
        "bits": ("weight_dtype", lambda bits: "int4" if bits == 4 else "int8"),
        "group_size": ("granularity", lambda size: {"group_size": _size(size)}),
    }

    bits: Annotated[Literal[4, 8], refuse(_BITS, "4, 8")] | None = _short(
        "Short for `weight_dtype`: `bits: 4` is `weight_dtype: int4`."
    )
    group_size: Annotated[int, Field(ge=1)] | None = _short(
        "Short for `granularity: {group_size: N}`."
    )

    weight_dtype: Annotated[Literal["int4", "int8"], refuse(_WIDTHS, "int4, int8")] = Field(
        default="int8", description="Type of the weights; int4 needs iOS18 / macOS15."
    )
    granularity: one_of({"axis": PerAxis, "group": PerGroup}, _granularity) = Field(
        default=PerAxis(axis=0),
        description="`{axis: 0}`: one scale per channel; `{group_size: N}`: one per group of N.",
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
        "more accurate; always symmetric).",
    )
    version: Literal[2] = Field(
        default=2, description="Version of torchao's config class; it has only this one."
    )


def _size(given: Any) -> int:
    """Return a size that is valid where the given one, which has its own finding, is not."""
    return given if isinstance(given, int) and given >= 1 else 1


def _block_size(value: list[int]) -> list[int]:
    if len(value) == 2 and all(size == -1 or size >= 1 for size in value):
        return value
    raise refusal(
        "this is not a block of a 2-D weight",
        "[rows, columns], each -1 (all of them) or at least 1",
        "e.g. [-1, -1] for one table per tensor, [16, -1] for one per 16 rows",
    )


class Codebook(Shortened):
    """Palettization: look-up tables (LUT) found by k-means; needs iOS18 / macOS15.

    The keys are those of torchao's CodebookWeightOnlyConfig, and short forms of them.
    """

    model_config = _either(("dtype", "bits"), ("block_size", "group_size"))
    SHORT: ClassVar = {
        "bits": ("dtype", lambda bits: f"uint{bits if bits in range(1, 9) else 8}"),
        "group_size": ("block_size", lambda size: [_size(size), -1]),
    }

    bits: Literal[1, 2, 3, 4, 5, 6, 7, 8] | None = _short(
        "Short for `dtype`: `bits: 3` is `dtype: uint3`."
    )
    group_size: Annotated[int, Field(ge=1)] | None = _short(
        "Rows that share one table: short for `block_size: [N, -1]`."
    )

    dtype: Literal["uint1", "uint2", "uint3", "uint4", "uint5", "uint6", "uint7", "uint8"] = Field(
        description="Type of the indices: 1 to 8 bits, 2 to 256 values per table."
    )
    block_size: Annotated[list[int], AfterValidator(_block_size)] = Field(
        description="[rows, columns] that share one table; -1: all of them. One of the two must "
        "span the weight, and the other divide it: other weights are left to later steps, or in "
        "floating point.",
        json_schema_extra={"minItems": 2, "maxItems": 2},
    )
