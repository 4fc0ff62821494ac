"""Graph passes of coremltools 9.0: one is made sound, and what they did is checked once.

``common::int_op_canonicalization`` (``mil/passes/defs/optimize_quantization.py``) turns

    dequantize -> reshape -> quantize    into    reshape

without asking whether the two have the same scale and zero point. PT2E gives them different ones
whenever an operator observes its input for itself, as a linear after a view does, and then the
integers are read with a scale they were not written with. Measured on ``digits_cnn``: 19 dB in
PyTorch, -7 dB after lowering. Its sister pass ``dequantize_quantize_pair_elimination`` does ask;
:func:`sound_reshapes` asks the same.

``PassPipelineManager.apply_pipeline`` (``mil/passes/pass_pipeline.py``) looks through the whole
program after each of about a hundred passes, for faults of the passes themselves: 15 to 30 % of a
lowering. :func:`checked_once` looks when a pipeline has ended. The backend does so again before it
writes the program, as ever.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
from coremltools.converters.mil.mil import Operation, Program
from coremltools.converters.mil.mil.passes.defs.optimize_quantization import (
    int_op_canonicalization,
)
from coremltools.converters.mil.mil.passes.pass_pipeline import PassPipeline, PassPipelineManager


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
    """Within this context the pass leaves a reshape alone that does not keep its scale."""
    upstream = int_op_canonicalization.match_pattern

    def match_pattern(
        self: int_op_canonicalization, op: Operation
    ) -> tuple[Operation, Operation] | None:
        matched = upstream(self, op)
        return matched if matched and _inverse(*matched) else None

    with patch.object(int_op_canonicalization, "match_pattern", match_pattern):
        yield


@contextmanager
def checked_once() -> Iterator[None]:
    """Within this context a pipeline's program is checked after its last pass only."""
    upstream = PassPipelineManager.apply_pipeline

    def apply_pipeline(program: Program, pipeline: PassPipeline) -> None:
        with patch.object(Program, "validate", lambda *_, **__: None):
            upstream(program, pipeline)
        program.validate()

    with patch.object(PassPipelineManager, "apply_pipeline", staticmethod(apply_pipeline)):
        yield
