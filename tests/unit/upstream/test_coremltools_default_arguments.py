"""Protects calls with fewer arguments than a converter counts: they are completed, not refused."""

import pytest
import torch
from pte_foundry.bench.operators.program import lowered_by_upstream
from pte_foundry.lowering import coreml, edge_program
from pte_foundry.lowering.coreml import LoweringError
from pte_foundry.pte import Pte
from pte_foundry.upstream import coremltools_default_arguments
from pte_foundry.upstream.coremltools_default_arguments import completed_arguments
from torch.nn import functional as F

from tests.unit.lowering.test_lowering import TARGET

X, Y = torch.arange(6.0).reshape(2, 3), torch.tensor([[1.0, -2, 3], [4, 0, -1]])
SIGNAL = torch.tensor([[1.0, 2, 0, -3, 5, 1, 0, 2]])
CALLS = {
    "one left out": (lambda x, y: F.mse_loss(x, y), (X, Y)),
    "three left out": (lambda x: torch.fft.rfft(x).abs(), (SIGNAL,)),
    "two of four": (lambda x, y: F.nll_loss(x, y), (X, torch.tensor([2, 0]))),
    "none left out": (lambda x, y: torch.linalg.cross(x, y, dim=1), (X, Y)),
    "None is a default": (lambda x: torch.fft.rfft(x, 10).abs(), (SIGNAL,)),
}


def exported(name):
    function, inputs = CALLS[name]

    class Network(torch.nn.Module):
        def forward(self, *given):
            return function(*given)

    return torch.export.export(Network(), inputs)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_completed(name):
    function, inputs = CALLS[name]
    target = TARGET | {"compute_precision": "float32"}
    (got,) = Pte.load(coreml.lower(edge_program.make(exported(name), []), target)).run(inputs)
    torch.testing.assert_close(got, function(*inputs), rtol=1e-5, atol=1e-5)


def test_upstream_still_has_the_fault():
    """If this fails, upstream has fixed it: remove completed_arguments."""
    with pytest.raises(ValueError, match=r"got 2 input\(s\), expected \[3\]"):
        lowered_by_upstream(exported("one left out"), "float32")


def test_a_call_with_arguments_of_its_own_is_not_completed():
    omitted = coremltools_default_arguments._omitted
    (node,) = (n for n in exported("None is a default").graph.nodes if "fft" in str(n.target))
    assert omitted(node) == [-1, None]  # dim and norm; n is given


def test_upstream_is_whole_again_afterwards():
    with completed_arguments():
        pass
    with pytest.raises(ValueError, match="expected"):
        lowered_by_upstream(exported("one left out"), "float32")
    assert LoweringError  # what the pipeline would raise
