"""Protects models from ranges that 8 bits cannot represent, and from recipes without effect."""

import logging

import pytest
import torch
from pte_foundry.errors import ModelError
from pte_foundry.quantize.coverage import coverage
from torch import nn

from tests.unit.quantize.test_quantize_floats import LOWEST, STATIC, converted, samples, sqnr

WEIGHT_ONLY = {"global_config": {"activation_dtype": "float32"}}


class FloatMask(nn.Module):
    """Masks outside of attention: products with a mask that is an input, far out of range."""

    def __init__(self, factor):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(8, 8)
        self.factor = factor

    def forward(self, x, mask):
        return torch.sigmoid(self.linear(x) + (1 - mask) * self.factor)


@pytest.mark.parametrize("factor", [LOWEST, -1e9])
def test_a_range_beyond_fp16_stays_in_float(factor, caplog):
    """The scale would be infinite. The log names operator, module and range."""
    mask = torch.ones(2, 8)
    mask[:, 3:] = 0
    inputs = [(sample, mask) for (sample,) in samples()]
    module = FloatMask(factor).eval()
    with caplog.at_level(logging.WARNING):
        program, statistics = converted(module, inputs=inputs)
    assert float.fromhex(statistics["mul"]["min"]) < -1e8
    assert f"aten.mul.Tensor: {factor:g} to" in caplog.text
    assert sqnr(program.module()(*inputs[0]), module(*inputs[0])) > 25


class Scaled(nn.Module):
    """A layer whose activations are ``factor`` small, scaled back afterwards."""

    def __init__(self, factor):
        super().__init__()
        torch.manual_seed(0)
        self.small, self.large = nn.Linear(8, 8, bias=False), nn.Linear(8, 8)
        self.small.weight.data *= factor
        self.factor = factor

    def forward(self, x):
        small = torch.relu(self.small(x))
        return self.large(small / self.factor if self.factor else small)


def test_a_range_below_the_smallest_scale_stays_in_float(caplog):
    """Untrained batch norms give such ranges; quantized, every value would be zero.

    So do weights.
    """
    module = Scaled(1e-12).eval()
    with caplog.at_level(logging.WARNING):
        program, _ = converted(module)
    assert "smaller than the smallest scale" in caplog.text
    (sample,) = samples(1)
    assert sqnr(program.module()(*sample), module(*sample)) > 30
    assert "small.weight" in coverage(program).floats
    assert "large.weight" not in coverage(program).floats


def test_a_layer_that_is_dead_on_the_samples_stays_in_float(caplog):
    """With other inputs it may live. Its weights of zero are quantized without loss."""
    module = Scaled(0.0).eval()
    with caplog.at_level(logging.WARNING):
        program, _ = converted(module)
    assert "aten.relu.default: 0 to 0 (smaller" in caplog.text
    assert "small.weight" not in coverage(program).floats
    (sample,) = samples(1)
    assert torch.allclose(program.module()(*sample), module(*sample), atol=0.02)


class Recurrent(nn.Module):
    def __init__(self, head=False):
        super().__init__()
        self.rnn = nn.LSTM(8, 8, batch_first=True)
        self.head = nn.Linear(8, 4) if head else nn.Identity()

    def forward(self, x):
        return self.head(self.rnn(x)[0])


@pytest.mark.parametrize("settings", [STATIC, WEIGHT_ONLY])
def test_a_recipe_that_quantizes_nothing_is_refused(settings):
    """It would ship the fp16 program under another name."""
    inputs = [(torch.randn(1, 3, 8),)]
    with pytest.raises(
        ModelError, match=r"quantizes nothing in this model.*operators are zeros, lstm"
    ):
        converted(Recurrent(), settings, inputs)
    program, _ = converted(Recurrent(head=True), settings, inputs)
    found = coverage(program)
    assert found.share == pytest.approx(32 / (32 + 4 + 2 * 256 + 2 * 32))
    assert "rnn.weight_ih_l0" in str(found)
