"""Protects programs from a pass that reads integers with a scale they do not have."""

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil.passes.defs.optimize_quantization import (
    int_op_canonicalization,
)
from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
from pte_foundry.upstream.coremltools_reshape_pass import sound_reshapes

from tests.unit.upstream.source_digest import assert_source_digest

ZERO = np.uint8(0)


def ops_after(scale, zero_point=ZERO):
    """The operators that the pass leaves of dequantize(0.5, 0) -> reshape -> quantize(scale, …)."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 4))], opset_version=ct.target.iOS17)
    def program(x):
        x = mb.quantize(input=x, scale=0.5, zero_point=np.uint8(0), output_dtype="uint8")
        x = mb.dequantize(input=x, scale=0.5, zero_point=np.uint8(0))
        x = mb.reshape(x=x, shape=(2, 2))
        x = mb.quantize(input=x, scale=scale, zero_point=zero_point, output_dtype="uint8")
        return mb.dequantize(input=x, scale=scale, zero_point=zero_point)

    PASS_REGISTRY["common::int_op_canonicalization"](program)
    return [op.op_type for op in program.functions["main"].operations if op.op_type != "const"]


KEPT = ["quantize", "dequantize", "reshape", "quantize", "dequantize"]


@pytest.mark.parametrize(("scale", "zero_point"), [(0.25, np.uint8(0)), (0.5, np.uint8(128))])
def test_a_reshape_between_different_scales_stays_between_them(scale, zero_point):
    with sound_reshapes():
        assert ops_after(scale, zero_point) == KEPT


def test_a_reshape_within_one_scale_is_simplified_as_upstream_does():
    upstream = ops_after(0.5)
    with sound_reshapes():
        ours = ops_after(0.5)
    assert ours == upstream
    assert ours != KEPT


def test_upstream_still_has_the_fault():
    """If this fails, upstream has fixed it: remove sound_reshapes."""
    assert ops_after(0.25) != KEPT


def test_the_pass_is_still_the_one_that_was_read():
    check = "Does `match_pattern` compare scale and zero point? Then remove sound_reshapes."
    assert_source_digest(
        int_op_canonicalization,
        "b078285b933c739dbe2c75c7af4a42fb074607931e5e9692e9d39d31bc65f3e7",
        check,
    )
