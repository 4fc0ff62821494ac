"""Keeps ``dequantize -> quantize`` where the integers before and after have different types.

Stands against: coremltools 9.0
Repairs: the pass ``common::dequantize_quantize_pair_elimination``
    (``mil/passes/defs/optimize_quantization.py``), which compares scales and zero points, but not
    the types of the integers: "New var … doesn't have compatible subtype of existing var".
Remove when: ``_check_quantize_removable`` compares them.

It happens when an int8 without zero point (made of a uint8 with zero point 128 by
``common::nullify_redundant_quantization_zero_point``) meets a uint8 without zero point of the same
scale: in layers whose range is zero, which all have the smallest scale.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from coremltools.converters.mil.mil import Operation
from coremltools.converters.mil.mil.passes.defs.optimize_quantization import (
    dequantize_quantize_pair_elimination,
)

from pte_foundry.upstream.versions import require

_METHOD = "try_dequantize_quantize_pair_elimination"
require(dequantize_quantize_pair_elimination, _METHOD, "op", patch=__name__)


@contextmanager
def sound_pair_elimination() -> Iterator[None]:
    """Within this context the pass leaves a dequantize alone that a quantize of another type reads.

    Its other pairs stay as well, which costs speed but no accuracy.
    """
    upstream = getattr(dequantize_quantize_pair_elimination, _METHOD)

    def eliminate(op: Operation) -> bool:
        if op.op_type == "dequantize" and any(
            reader.op_type == "quantize" and reader.outputs[0].dtype != op.input.dtype
            for reader in op.outputs[0].child_ops
        ):
            return False
        return upstream(op)

    with patch.object(dequantize_quantize_pair_elimination, _METHOD, staticmethod(eliminate)):
        yield
