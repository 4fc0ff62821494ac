"""Protects the debug info of Core ML models that methods share."""

import inspect

import torch
from executorch.backends.apple.coreml.compiler import CoreMLBackend
from pte_foundry.lowering import edge_program
from pte_foundry.lowering.coreml import lower
from pte_foundry.upstream.executorch_debug_info import kept_debug_info

from tests.unit.lowering.test_lowering import TARGET


def test_upstream_drops_it():
    """If this fails: has a shared model the debug handles of its methods now? Then use them.

    ``tests/unit/lowering/test_methods.py`` shows the repair: values of every method have operators.
    """
    source = inspect.getsource(CoreMLBackend.preprocess_multimethod)
    assert "Debug info is not supported for multifunction models" in source
    assert "ct.utils.save_multifunction(desc, " in source, "which is where it is collected"


def test_a_method_that_shares_nothing_keeps_its_own():
    program = torch.export.export(torch.nn.Linear(2, 2).eval(), (torch.ones(1, 2),))
    with kept_debug_info() as found:
        assert lower(edge_program.make(program, []), TARGET)
    assert found == {}
