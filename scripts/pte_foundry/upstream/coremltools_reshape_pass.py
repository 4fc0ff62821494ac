"""Keeps Core ML programs from reading integers with a scale that they were not written with.

Stands against: coremltools 9.0
Repairs: the pass ``common::int_op_canonicalization``
    (``mil/passes/defs/optimize_quantization.py``), which turns ``dequantize -> reshape ->
    quantize`` into ``reshape`` without comparing the two scales and zero points.
Remove when: ``int_op_canonicalization.match_pattern`` compares them.

PT2E gives the two different scales whenever an operator observes its input for itself, as a linear
after a view does. Measured on ``digits_cnn``: 19 dB in PyTorch, -7 dB after lowering. The sister
pass ``dequantize_quantize_pair_elimination`` compares them; :func:`sound_reshapes` does the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
from coremltools.converters.mil.mil import Operation
from coremltools.converters.mil.mil.passes.defs.optimize_quantization import (
    int_op_canonicalization,
)

from pte_foundry.upstream.versions import require

require(int_op_canonicalization, "match_pattern", "self op", patch=__name__)


def _inverse(dequantize: Operation, quantize: Operation) -> bool:
    """Whether ``quantize`` gives back the integers that ``dequantize`` read."""
    if dequantize.input.dtype != quantize.outputs[0].dtype:
        return False
    for name in ("scale", "zero_point", "axis"):
        ours, theirs = getattr(dequantize, name), getattr(quantize, name)
        if (ours is None) != (theirs is None):
            return False
        if ours is not None and not np.array_equal(ours.val, theirs.val):
            return False
    return True


@contextmanager
def sound_reshapes() -> Iterator[None]:
    """Within this context the pass keeps a reshape between two different scales as it is."""
    upstream = int_op_canonicalization.match_pattern

    def match_pattern(
        self: int_op_canonicalization, op: Operation
    ) -> tuple[Operation, Operation] | None:
        matched = upstream(self, op)
        return matched if matched and _inverse(*matched) else None

    with patch.object(int_op_canonicalization, "match_pattern", match_pattern):
        yield
