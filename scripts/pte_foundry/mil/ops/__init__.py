"""MIL's operations, one module per family of coremltools 9.0 (``converters/mil/mil/ops/defs``).

Importing this package registers them. To add an operation or a version of one:

1. Write one function in the module of its family, decorated with ``@op("name", since="iOS18")``
   (:func:`pte_foundry.mil.registry.op`). A new family is a new module, imported below.
2. Take MIL's parameters as keyword-only arguments, with MIL's names and defaults; the annotations
   are the types of :mod:`pte_foundry.mil.parameters`. Return tensors.
3. Leave dtypes and shapes of results to the loop, which checks them. Follow Core ML where it
   differs from torch: first what was measured on devices, then the documentation. Add a comment
   with the source.
4. Add one row per behaviour to the table in ``tests/mil/test_mil_<family>.py``, and valid arguments
   to ``tests/mil/mil_arguments.py``, which run the operation in every dtype.
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
