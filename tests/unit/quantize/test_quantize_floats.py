"""Protects models that compute with integers, positions and masks from PT2E quantization.

Upstream annotates every sum, product and matmul, whatever its tensors hold.
"""

import pytest
import torch
from pte_foundry.lowering import edge_program
from pte_foundry.lowering.coreml import lower
from pte_foundry.pte.execute import Pte
from pte_foundry.quantize import pt2e
from torch import nn
from torch.nn import functional as F

from tests.unit.lowering.test_lowering import TARGET

STATIC = {"global_config": {"activation_observer": "min_max"}}
MOVING = {"global_config": {}}
LOWEST = torch.finfo(torch.float32).min


class Body(nn.Module):
    """A linear, so that there is something to quantize, and ``also``: what a test is about."""

    def __init__(self, also):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(8, 8)
        self.also = also

    def forward(self, x):
        return self.also(self.linear(x), x)


def integers(y, x):
    rows, columns = torch.arange(y.shape[1]) + 0, torch.arange(y.shape[1]) * 2
    return y + ((rows[None] + columns[:, None]) > 4).float().mean(0)


def shared_ranges(y, x):
    """Operators that pass their range on, of integers."""
    both = torch.flatten(torch.cat([torch.arange(4) + 1, torch.arange(4) + 2]).view(2, 4))
    return y * both.flatten().clamp(max=3)


def matmul_of_integers(y, x):
    return y + torch.matmul(torch.arange(8)[None] + 1, torch.ones(8, 8, dtype=torch.int64))


def mean_of_integers(y, x):
    return y + (torch.arange(8)[None] + 1).mean(dim=1, keepdim=True, dtype=torch.float32)


def sum_of_booleans(y, x):
    return y * ((torch.arange(8) > 2) + (torch.arange(8) < 1))


def doubles(y, x):
    return ((y.double() + 1) * 2).float()


def scalar_tensors(y, x):
    return y * torch.tensor(2) + torch.tensor(3.0)


def count(y, x):
    return y + (y > 0).sum(dim=1, keepdim=True)


KINDS = [
    integers,
    shared_ranges,
    matmul_of_integers,
    mean_of_integers,
    sum_of_booleans,
    doubles,
    scalar_tensors,
    count,
]


def samples(number=4, rows=2):
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(rows, 8, generator=generator),) for _ in range(number)]


def converted(module, settings=STATIC, inputs=None, dynamic=None):
    inputs = inputs or samples()
    program = torch.export.export(module.eval(), inputs[0], dynamic_shapes=dynamic)
    statistics = pt2e.calibrate(program, settings, inputs)
    return pt2e.convert(program, settings, statistics, inputs[0], dynamic), statistics


def sqnr(found, expected):
    noise = (found - expected).square().sum()
    return 10 * torch.log10(expected.square().sum() / noise).item()


def quantized_tensors(program):
    return [
        node.args[0].meta["val"]
        for node in program.graph.nodes
        if "quantized_decomposed.quantize" in str(node.target)
    ]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_only_fp32_is_quantized(kind):
    program, _ = converted(Body(kind))
    tensors = quantized_tensors(program)
    assert tensors
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    (sample,) = samples(1)
    assert sqnr(program.module()(*sample), Body(kind)(*sample)) > 30


@pytest.mark.parametrize("kind", [integers, count], ids=lambda kind: kind.__name__)
def test_a_model_with_integers_ships(kind):
    """Through the Core ML program, on the oldest OS that has quantized activations."""
    program, _ = converted(Body(kind))
    lowered = lower(edge_program.make(program, []), TARGET | {"specification_version": 8})
    (sample,) = samples(1)
    (output,) = Pte.load(lowered).run(sample)
    assert sqnr(output, Body(kind)(*sample)) > 30


def test_sizes_are_not_quantized():
    """With dynamic shapes, a size is a number of the graph that sums and products take."""
    batch = ({0: torch.export.Dim("batch", min=2, max=9)},)
    module = Body(lambda y, x: (y * x.shape[0] + (x.shape[0] + 1)) * 0.5)
    program, statistics = converted(module, inputs=samples(rows=3), dynamic=batch)
    assert {"linear", "mul", "add_1"} <= statistics.keys()
    assert "add" not in statistics  # the size
    (sample,) = samples(1, rows=5)
    assert program.module()(*sample).shape == (5, 8)


def test_the_float_operand_of_an_integer_is_quantized():
    _, statistics = converted(Body(lambda y, x: (y + x) * torch.arange(8)))
    assert {"add", "mul"} <= statistics.keys()


class Rotary(nn.Module):
    """Angles of positions up to 4096, applied to the output of a linear."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(8, 8)
        self.register_buffer("frequencies", 10 ** -torch.arange(8.0))

    def forward(self, x, positions):
        angles = torch.matmul(positions[:, None].float(), self.frequencies[None]) * 1.0
        return self.linear(x) * angles.cos() + x * angles.sin()


def test_what_is_computed_from_positions_alone_is_not_quantized():
    """256 steps of 16 positions each: every rotation would be wrong."""
    inputs = [(torch.randn(4, 8), torch.tensor([0, 1, 1000, 4096]))]
    module = Rotary().eval()
    program, statistics = converted(module, inputs=inputs)
    assert statistics.keys() >= {"x", "linear", "add"}
    assert not statistics.keys() & {"matmul", "to", "_to_copy", "mul"}
    assert sqnr(program.module()(*inputs[0]), module(*inputs[0])) > 30


class State(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.register_buffer("mean", torch.zeros(2, 8))

    def forward(self, x):
        decayed = self.mean * 0.5
        self.mean.copy_(decayed + self.linear(x))
        return self.mean * 2


def test_a_state_is_data():
    """Unlike a constant, a buffer that the model writes to holds activations."""
    module = State().eval()
    program, statistics = converted(module, inputs=samples())
    assert {"mean", "mul"} <= statistics.keys()
    assert float.fromhex(statistics["mean"]["max"]) > 0  # observed from the second sample on
    assert not program.state_dict["mean"].any()  # neither calibration nor conversion moves it
    assert not module.mean.any()
    quantized = program.module()
    shipped = Pte.load(lower(edge_program.make(program, []), TARGET))
    for sample in samples():
        expected = module(*sample)
        assert sqnr(quantized(*sample), expected) > 25
        assert sqnr(shipped.run(sample)[0], expected) > 25


class Attention(nn.Module):
    """One head that adds ``masked`` to the scores of padding: 0 in ``kept``."""

    def __init__(self, masked, fused=False):
        super().__init__()
        torch.manual_seed(0)
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.bias = nn.Parameter(torch.randn(8, 8))
        self.masked, self.fused = masked, fused

    def forward(self, x, kept):
        q, k, v = self.query(x) * 2, self.key(x), self.value(x)
        mask = torch.where(kept > 0, 0.0, self.masked)[:, None, :]
        if self.fused:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias + mask)
        scores = torch.matmul(q, k.transpose(1, 2)) / 4
        return torch.matmul((self.bias + scores + mask).float().softmax(-1), v)


def masked_samples(dtype):
    generator = torch.Generator().manual_seed(1)
    kept = torch.ones(1, 8, dtype=dtype)
    kept[:, 5:] = 0
    return [(torch.randn(1, 8, 16, generator=generator), kept) for _ in range(3)]


@pytest.mark.parametrize("settings", [STATIC, MOVING], ids=["min_max", "moving"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32], ids=str)
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("masked", [-10_000.0, LOWEST, -torch.inf])
def test_attention_survives_its_mask(masked, fused, dtype, settings):
    """A range down to -10,000 has steps of 78, in which all scores are the same."""
    inputs = masked_samples(dtype)
    module = Attention(masked, fused).eval()
    program, _ = converted(module, settings, inputs)
    assert sqnr(program.module()(*inputs[0]), module(*inputs[0])) > 25
