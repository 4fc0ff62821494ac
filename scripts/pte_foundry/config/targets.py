"""The ``targets`` section: deployment targets.

The keys are the eight compile specs of ``COMPILE_SPEC_KEYS`` (executorch 1.5.1, backends/apple/
coreml/compiler/coreml_preprocess.py) and the arguments of ``CoreMLPartitioner`` (partition/
coreml_partitioner.py), with upstream's names, values and defaults.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from pte_foundry.config.base import Strict, refusal
from pte_foundry.config.systems import (
    IOS18,
    RUNTIME_FLOOR,
    SPECIFICATION_VERSIONS,
    SUPPORTED,
    named,
    oldest,
)
from pte_foundry.findings import did_you_mean, listed


def _system(value: object) -> object:
    if not isinstance(value, str) or value in SUPPORTED:
        return value
    if value in SPECIFICATION_VERSIONS:
        raise refusal(
            "ExecuTorch's Core ML runtime does not support it (it crashes on iOS 15)",
            listed(SUPPORTED),
            f"raise it to {named(RUNTIME_FLOOR)} or newer",
        )
    fix = did_you_mean(value, SUPPORTED, "use one of the allowed names")
    raise refusal("no such operating system", listed(SUPPORTED), fix)


def _block_size(value: object) -> object:
    sizes = value if isinstance(value, list) else [value]
    if sizes and all(type(size) is int and size >= 0 for size in sizes):
        return value
    raise refusal(
        "this is not a block size",
        "an integer of at least 0, or a list of them (0: the whole axis)",
        "e.g. 32, or [1, 32] for a linear's weight",
    )


class LinearQuantizerSpec(Strict):
    """Weight-only quantization by coremltools after conversion (its OpLinearQuantizerConfig)."""

    mode: Literal["linear_symmetric", "linear"] = Field(
        default="linear_symmetric", description="Without (`linear_symmetric`) or with zero points."
    )
    dtype: Literal["int8", "uint8", "int4", "uint4"] = Field(
        default="int8", description="Type of the weights; 4 bits need iOS18 / macOS15."
    )
    granularity: Literal["per_tensor", "per_channel", "per_block"] = Field(
        default="per_channel",
        description="What shares a scale; `per_block` needs iOS18 / macOS15.",
    )
    block_size: Annotated[int | list[int], BeforeValidator(_block_size)] = Field(
        default=32, description="Values per block, or block size per axis; only with `per_block`."
    )
    weight_threshold: Annotated[int, Field(ge=0)] | None = Field(
        default=2048, description="Tensors with at most this many elements are left unquantized."
    )

    @property
    def bits(self) -> int:
        """Bits of a quantized weight."""
        return int(self.dtype.lstrip("uint"))


class Partitioner(Strict):
    """What goes into the Core ML delegate (arguments of CoreMLPartitioner)."""

    skip_ops_for_coreml_delegation: list[str] = Field(
        default=[],
        description="Operators to keep out of the delegate, as the torch or the edge program names "
        "them, e.g. `aten.conv2d.default`.",
    )
    take_over_mutable_buffer: bool | None = Field(
        default=None,
        description="Turn buffers into Core ML states (true; iOS18+ / macOS15+) or leave them to "
        "ExecuTorch (false); `null`: states if the operating system has them.",
    )
    take_over_constant_data: bool = Field(
        default=True, description="Put weights into the delegate; false passes them as inputs."
    )
    lower_full_graph: bool = Field(
        default=False,
        description="Fail unless every operator goes into the delegate. Needs an empty skip "
        "list, `take_over_constant_data` and `take_over_mutable_buffer` (so iOS18 / macOS15).",
    )


class Target(Strict):
    """A deployment target."""

    minimum_os: Annotated[str, BeforeValidator(_system)] = Field(
        description="Minimum OS version (deployment target). It decides which Core ML operators "
        "may be used.",
        json_schema_extra={"enum": list(SUPPORTED)},
    )
    compute_precision: Literal["float16", "float32"] = Field(
        default="float16",
        description="Precision of the Core ML program. The Neural Engine has float16 only.",
    )
    compute_units: Literal["all", "cpu_only", "cpu_and_gpu", "cpu_and_ne"] = Field(
        default="all", description="Processors that Core ML may use; an app can override it."
    )
    model_type: Literal["model", "compiled_model"] = Field(
        default="model",
        description="`model`: compiled on the device at first load; `compiled_model`: compiled "
        "ahead, which needs a Mac to build on.",
    )
    op_linear_quantizer_config: LinearQuantizerSpec | None = Field(
        default=None,
        description="Quantize weights after the conversion; upstream calls it experimental. It "
        "applies to convolutions too, not to embeddings. `{}`: upstream's defaults.",
    )
    pass_pipeline: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+::[A-Za-z0-9_]+$")]] | None = (
        Field(
            default=None,
            description="Names of the MIL passes to run instead of coremltools' default "
            "pipeline, e.g. `common::const_elimination`.",
        )
    )
    shapes: Literal["range", "enumerated", "fixed"] | None = Field(
        default=None,
        description="What becomes of dynamic shapes: `range` (all sizes of `dynamic_shapes()`), "
        "`enumerated` (the model's `enumerated_shapes`), or `fixed` (the shapes of the example "
        "inputs alone); `null`: enumerated if the model has such shapes, else a range. Core ML "
        "uses the Neural Engine for enumerated and fixed shapes only.",
    )
    multimethod_weight_sharing_strategy: Literal["positional", "disabled"] | None = Field(
        default=None,
        description="How the methods of a program share weights: `positional` stores them once "
        "(iOS18 / macOS15), `disabled` once for each method; `null`: `positional` if the system "
        "allows it.",
    )
    partitioner: Partitioner = Field(
        default=Partitioner(), description="What goes into the Core ML delegate."
    )

    @model_validator(mode="before")
    @classmethod
    def _moved(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("enumerated_shapes") is not None:
            raise refusal(
                "enumerated shapes belong to the model, whose inputs they name",
                "shapes: enumerated, range or fixed; enumerated_shapes in models.NAME",
                "move the key to the model; targets then enumerate where a model does",
                at="enumerated_shapes",
            )
        return value

    @property
    def specification_version(self) -> int:
        """The Core ML specification version that the program will carry (7 to 10)."""
        return SPECIFICATION_VERSIONS[self.minimum_os]

    @property
    def oldest_ios(self) -> str:
        """The oldest iOS that reads this specification version."""
        return oldest(self.specification_version)

    @property
    def takes_over_mutable_buffer(self) -> bool:
        """Whether buffers become Core ML states: as set, or else if the system has states."""
        asked = self.partitioner.take_over_mutable_buffer
        return self.specification_version >= IOS18 if asked is None else asked
