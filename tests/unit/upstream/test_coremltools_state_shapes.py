"""Protects windows that slide, the states of streaming models.

``lowering/test_caches.py`` executes them.
"""

import pytest
import torch
from pte_foundry.bench.operators.program import lowered_by_upstream
from pte_foundry.upstream.coremltools_state_shapes import shaped_states
from torch.export import Dim


class Window(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("held", torch.zeros(1, 6, 2))

    def forward(self, new):
        self.held.copy_(torch.cat([self.held, new], 1)[:, -6:])
        return self.held * 2


def test_upstream_still_refuses():
    """If this fails, upstream has fixed it: remove shaped_states."""
    count = {1: Dim("n", min=2, max=8)}
    program = torch.export.export(Window(), (torch.ones(1, 3, 2),), dynamic_shapes=(count,))
    with pytest.raises(ValueError, match="State wrapped type"):
        lowered_by_upstream(program, "float32")
    with shaped_states():
        assert lowered_by_upstream(program, "float32")
