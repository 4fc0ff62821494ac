"""Protects the export of torch's transformer layers with masks, the usual way of calling them."""

import pytest
import torch
from pte_foundry.models.inference import evaluate
from pte_foundry.models.tensors import Samples
from pte_foundry.upstream.torch_causal_masks import declared_masks
from torch import nn

LATER = torch.ones(5, 5).triu(1) > 0
MASKS = {
    "booleans": LATER,
    "infinities": torch.zeros(5, 5).masked_fill(LATER, -torch.inf),
    "not causal": torch.eye(5) * -9,
}


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, x, mask):
        return self.encoder(x, mask=mask)


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.transformer = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)

    def forward(self, x, mask):
        return self.transformer(x, x + 1, tgt_mask=mask)


@pytest.fixture
def inputs():
    torch.backends.mha.set_fastpath_enabled(False)  # as ModelModule.build does
    return torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))


def test_upstream_still_reads_the_mask(inputs):
    """If this fails, torch exports it: remove the repair."""
    with pytest.raises(Exception, match="data-dependent"):
        torch.export.export(Encoder().eval(), (inputs, LATER), strict=False)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("network", [Encoder, Whole])
def test_masks_are_exported_and_applied(network, name, inputs):
    module, sample = network().eval(), (inputs, MASKS[name])
    with declared_masks():
        program = torch.export.export(module, sample, strict=False)
    with torch.no_grad():
        expected = module(*sample)
    samples = Samples([sample], [(expected,)], None)
    ((got,),) = evaluate(program, samples).outputs
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    other = evaluate(
        program, Samples([(inputs, torch.zeros_like(MASKS[name]))], [(expected,)], None)
    )
    assert not torch.allclose(other.outputs[0][0], expected, atol=1e-4)


def test_the_repair_ends_with_its_context():
    upstream = nn.modules.transformer._detect_is_causal_mask
    with declared_masks():
        assert nn.modules.transformer._detect_is_causal_mask(LATER, True)
        assert not nn.modules.transformer._detect_is_causal_mask(LATER)
    assert nn.modules.transformer._detect_is_causal_mask is upstream
