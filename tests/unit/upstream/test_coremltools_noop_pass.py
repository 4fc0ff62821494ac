"""Protects ``x % 1`` from a pass that removes the floor of a division by one."""

import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types
from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
from pte_foundry.upstream.coremltools_noop_pass import kept_floors

from tests.unit.lowering import both_ways
from tests.unit.lowering.both_ways import decibels, target
from tests.unit.lowering.test_rewrites import normal


def ops_after(dtype=types.fp32, op=mb.floor_div):
    """The operators that the pass leaves of relu(op(x, 1))."""
    one = np.int32(1) if dtype is types.int32 else np.float32(1)

    @mb.program(input_specs=[mb.TensorSpec(shape=(2, 3), dtype=dtype)])
    def program(x):
        return mb.add(x=op(x=x, y=one), y=x)

    PASS_REGISTRY["common::noop_elimination"](program)
    return [op.op_type for op in program.functions["main"].operations if op.op_type != "const"]


def test_the_floor_of_a_division_by_one_is_kept():
    with kept_floors():
        assert ops_after() == ["floor_div", "add"]


@pytest.mark.parametrize(
    ("dtype", "op"), [(types.int32, mb.floor_div), (types.fp32, mb.real_div), (types.fp32, mb.mul)]
)
def test_what_changes_nothing_is_removed_as_upstream_does(dtype, op):
    with kept_floors():
        ours = ops_after(dtype, op)
    assert ours == ops_after(dtype, op) == ["add"]


def test_upstream_still_has_the_fault():
    """If this fails, upstream has fixed it: remove kept_floors."""
    assert ops_after() == ["add"]


def test_the_fraction_of_a_number_is_right():
    """A detector's boxes in pixels, and scores of 0 to 1 that upstream makes 0."""

    def detector(x):
        return x.sigmoid() * 640, (x * 4) % 1

    case = detector, (normal(4, 8),)
    assert decibels(both_ways.upstream, *case, target()) < 10
    assert decibels(both_ways.ours, *case, target()) > 90
    assert decibels(both_ways.ours, *case, target("float16")) > 40
