"""Protects programs from a pass that reads integers with a scale they do not have, and from faults.

The latter are looked for once, after all passes, and upstream does so after each.
"""

from contextlib import nullcontext
from unittest.mock import patch

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import Program
from coremltools.converters.mil.mil.block import InvalidBlockStateError
from coremltools.converters.mil.mil.passes.pass_pipeline import PassPipelineManager
from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
from pte_foundry.upstream.coremltools_passes import checked_once, sound_reshapes

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
    """If this fails, upstream has mended it: remove sound_reshapes."""
    assert ops_after(0.25) != KEPT


def relu():
    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 4))], opset_version=ct.target.iOS17)
    def program(x):
        return mb.relu(x=mb.relu(x=mb.add(x=x, y=1.0)))

    return program


def checks(monkeypatch):
    """How often a program is checked while it goes through the passes, and its operators then."""
    found = []
    upstream = Program.validate
    with monkeypatch.context() as context:
        context.setattr(Program, "validate", lambda *a, **k: found.append(1) or upstream(*a, **k))
        program = relu()
        found.clear()
        PassPipelineManager.apply_pipeline(program, ct.PassPipeline.DEFAULT)
    return len(found), [op.op_type for op in program.functions["main"].operations]


def test_programs_are_checked_once_and_come_out_the_same(monkeypatch):
    times, upstreams = checks(monkeypatch)
    assert times > 50  # else upstream has given it up: remove checked_once
    with checked_once():
        assert checks(monkeypatch) == (1, upstreams)
    assert checks(monkeypatch) == (times, upstreams)


def test_a_fault_of_a_pass_is_found():
    """An operator that forgets who uses its result."""

    def breaks(program):
        first, *_ = program.functions["main"].find_ops(op_type="add")
        first.outputs[0].child_ops.clear()

    pipeline = ct.PassPipeline(["common::dead_code_elimination"], "one pass")
    for checked in (nullcontext, checked_once):
        with (
            patch.object(type(PASS_REGISTRY[pipeline.passes[0]]), "apply", lambda _, p: breaks(p)),
            checked(),
            pytest.raises(InvalidBlockStateError),
        ):
            PassPipelineManager.apply_pipeline(relu(), pipeline)
