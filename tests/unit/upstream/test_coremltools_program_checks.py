"""Protects the check of a program after all passes: upstream checks it after each."""

from contextlib import nullcontext
from unittest.mock import patch

import coremltools as ct
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import Program
from coremltools.converters.mil.mil.block import InvalidBlockStateError
from coremltools.converters.mil.mil.passes.pass_pipeline import PassPipelineManager
from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
from pte_foundry.upstream.coremltools_program_checks import checked_once


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
    assert times > 50  # else upstream checks less often: remove checked_once
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
