"""Protects programs from a pass that takes integers of one type for integers of another."""

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil.passes.defs.optimize_quantization import (
    dequantize_quantize_pair_elimination,
)
from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
from pte_foundry.upstream.coremltools_pair_elimination import sound_pair_elimination

from tests.unit.upstream.source_digest import assert_source_digest

PAIR = ["quantize", "dequantize", "quantize", "dequantize"]


def ops_after(first, second):
    """The operators that the pass leaves of a tensor that is quantized to two types in turn."""

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 4))], opset_version=ct.target.iOS17)
    def program(x):
        for dtype in (first, second):
            x = mb.quantize(input=x, scale=np.float32(2**-23), output_dtype=dtype)
            x = mb.dequantize(input=x, scale=np.float32(2**-23))
        return x

    PASS_REGISTRY["common::dequantize_quantize_pair_elimination"](program)
    return [op.op_type for op in program.functions["main"].operations if op.op_type != "const"]


def test_two_types_stay_two():
    with sound_pair_elimination():
        assert ops_after("uint8", "int8") == PAIR


def test_a_pair_of_one_type_is_removed_as_upstream_does():
    upstream = ops_after("uint8", "uint8")
    with sound_pair_elimination():
        assert ops_after("uint8", "uint8") == upstream == ["quantize", "dequantize"]


def test_upstream_still_has_the_fault():
    """If this fails, upstream has fixed it: remove sound_pair_elimination."""
    with pytest.raises(ValueError, match="compatible subtype"):
        ops_after("uint8", "int8")


def test_the_pass_is_still_the_one_that_was_read():
    check = "Does it compare the types of the integers? Then remove sound_pair_elimination."
    assert_source_digest(
        dequantize_quantize_pair_elimination,
        "da376baf8cf546270fe2c064146b23f6e5e1e21fbdc62cd8c2e7577e64bcfffb",
        check,
    )
