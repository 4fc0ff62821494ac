"""Protects the approximation of gelu, which most language models ask for."""

import pytest
import torch
from pte_foundry.bench.operators.program import lowered_by_upstream, target
from pte_foundry.lowering import coreml, edge_program
from pte_foundry.pte import Pte
from pte_foundry.upstream.coremltools_gelu import approximated_gelu
from torch.nn import functional as F

X = torch.linspace(-4, 4, 33)


class Gelu(torch.nn.Module):
    def __init__(self, approximate):
        super().__init__()
        self.approximate = approximate

    def forward(self, x):
        return F.gelu(x, approximate=self.approximate)


def error(lowered, approximate):
    network = Gelu(approximate)
    (got,) = Pte.load(lowered(torch.export.export(network, (X,)))).run((X,))
    return (got - network(X)).abs().max().item()


def ours(program):
    return coreml.lower(edge_program.make(program, []), target("float32"))


def upstream(program):
    return lowered_by_upstream(program, "float32")


@pytest.mark.parametrize("approximate", ["tanh", "none"])
def test_gelu_is_what_the_call_asks_for(approximate):
    assert error(ours, approximate) < 1e-6


def test_upstream_still_has_the_fault():
    """If this fails, upstream has fixed it: remove approximated_gelu."""
    assert error(upstream, "tanh") > 1e-4
    assert error(upstream, "none") < 1e-6


def test_upstream_is_whole_again_afterwards():
    with approximated_gelu():
        pass
    assert error(upstream, "tanh") > 1e-4
