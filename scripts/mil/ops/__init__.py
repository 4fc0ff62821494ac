"""The operations, in coremltools' families (``converters/mil/mil/ops/defs``). Importing registers.

A new family is a new module here: functions decorated with :func:`scripts.mil.registry.op`.
"""

from scripts.mil.ops import (
    activation,
    constexpr,
    control_flow,
    conv,
    elementwise_binary,
    elementwise_unary,
    image_resizing,
    image_sampling,
    linear,
    normalization,
    pool,
    quantization,
    reduction,
    scatter_gather,
    states,
    tensor_operation,
    tensor_transformation,
    transformers,
)

__all__ = [
    "activation",
    "constexpr",
    "control_flow",
    "conv",
    "elementwise_binary",
    "elementwise_unary",
    "image_resizing",
    "image_sampling",
    "linear",
    "normalization",
    "pool",
    "quantization",
    "reduction",
    "scatter_gather",
    "states",
    "tensor_operation",
    "tensor_transformation",
    "transformers",
]
