"""Calls that torch's own samples lack, by family: ``(operator, label, function, *inputs)``."""

from pte_foundry.bench.operators.calls import (
    attention,
    convolution,
    elementwise,
    indexing,
    pooling,
    shapes,
    values,
)

CALLS = [
    *attention.CALLS,
    *convolution.CALLS,
    *elementwise.CALLS,
    *indexing.CALLS,
    *pooling.CALLS,
    *shapes.CALLS,
    *values.CALLS,
]
