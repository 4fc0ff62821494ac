"""The operations, in coremltools' families (``converters/mil/mil/ops/defs``). Importing registers.

A new family is a new module here: functions decorated with :func:`pte_foundry.mil.registry.op`.
"""

from pte_foundry.mil.ops import (
    activation,
    classify,
    constexpr,
    control_flow,
    conv,
    elementwise_binary,
    elementwise_unary,
    image_resizing,
    image_sampling,
    linear,
    lists,
    normalization,
    pool,
    quantization,
    random,
    recurrent,
    reduction,
    scatter_gather,
    states,
    tensor_operation,
    tensor_transformation,
    transformers,
)

__all__ = [
    "activation",
    "classify",
    "constexpr",
    "control_flow",
    "conv",
    "elementwise_binary",
    "elementwise_unary",
    "image_resizing",
    "image_sampling",
    "linear",
    "lists",
    "normalization",
    "pool",
    "quantization",
    "random",
    "recurrent",
    "reduction",
    "scatter_gather",
    "states",
    "tensor_operation",
    "tensor_transformation",
    "transformers",
]
