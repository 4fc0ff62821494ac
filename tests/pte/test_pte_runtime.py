"""Protects execution of kernels: equal to executorch's own runtime, which runs on any machine."""

from __future__ import annotations

import pytest
import torch
from pte_foundry.pte import Pte
from torch import nn

from tests.pte.programs import SMALL_INPUT, Branches, Counter, Sizes, Small, lower_portable


class Block(nn.Module):
    """A transformer block with an embedding, a causal mask and normalisation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.embed = nn.Embedding(50, 16)
        self.qkv = nn.Linear(16, 48)
        self.out = nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)
        self.up, self.down = nn.Linear(16, 64), nn.Linear(64, 16)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        q, k, v = self.qkv(self.norm(x)).view(1, -1, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        scores = (q @ k.transpose(-1, -2) / 2).masked_fill(~mask, float("-inf"))
        x = x + self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(1, -1, 16))
        return x + self.down(torch.nn.functional.gelu(self.up(x)))


class Convnet(nn.Module):
    """Batch normalisation, groups and pooling."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8), nn.Hardswish(),
            nn.Conv2d(8, 8, 3, groups=8), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).flatten(1)


class ChannelsLast(nn.Module):
    """Memory formats: kernels see them, and the result has one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.relu(self.conv(x.to(memory_format=torch.channels_last)))
        return y, y.contiguous() + 1


class Views(nn.Module):
    """Views that are no instructions, and outputs that are views of one another."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = (x + 1).view(2, 12).view(4, 6)
        first, second = y.split(3, dim=1)
        return y.view(24) * 2, first, torch.cat([second, first]), y.unsqueeze(0), x[:, 1:]


class Reductions(nn.Module):
    """Several results, integer results, results of another dtype, a constant result."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        values, places = x.topk(2)
        largest, where = x.max(dim=1)
        return (
            values, places, largest, where, x.argmax(), x.sum(1) > 0, x.to(torch.int32),
            x.mean(), torch.arange(3), torch.where(x > 0, x, 0.0), x.var(1), x[places[:, 0] % 4],
        )  # fmt: skip


class Rows(nn.Module):
    """Writes into a buffer at a given place, as caches do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(5, 3))

    def forward(self, place: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        self.rows.index_put_((place,), row)
        return self.rows + 0.5


X = torch.linspace(-2, 2, 24)
BATCH, LENGTH = torch.export.Dim("batch", max=6), torch.export.Dim("length", max=8)
CASES = {
    "classifier": (Small(), [SMALL_INPUT], None),
    "convnet": (Convnet(), [(torch.randn(1, 3, 16, 16),)], None),
    "channels last": (ChannelsLast(), [(torch.randn(1, 3, 6, 5),)], None),
    "transformer": (Block(), [(torch.arange(7)[None] * 7,)], None),
    "transformer of any length": (
        Block(),
        [(torch.arange(n)[None] * 6,) for n in (5, 2, 8)],
        ({1: torch.export.Dim("length", min=2, max=8)},),
    ),
    "views": (Views(), [(X.reshape(4, 6),)], None),
    "reductions": (Reductions(), [(X.reshape(4, 6).sin(),)], None),
    "branches": (Branches(), [(X + 1,), (X - 1,), (X + 2,)], None),
    "sizes": (
        Sizes(),
        [(torch.randn(n, m, 4),) for n, m in ((2, 3), (6, 8), (1, 2))],
        ({0: BATCH, 1: LENGTH},),
    ),
    "counter": (Counter(), [(torch.ones(4),), (torch.full((4,), 2.0),), (torch.ones(4),)], None),
    "rows": (
        Rows(),
        [(torch.tensor([i]), torch.full((1, 3), i + 1.0)) for i in (1, 4, 1)],
        None,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_equal_to_executorchs_runtime(name):
    """One loaded program, run several times, so that state and stale memory would show."""
    from executorch.runtime import Runtime

    model, runs, dynamic = CASES[name]
    data = lower_portable(model, runs[0], dynamic)
    theirs = Runtime.get().load_program(data).load_method("forward")
    ours = Pte.load(data)
    kept = []
    for inputs in runs:
        expected = [value.clone() for value in theirs.execute(inputs)]
        found = ours.run(inputs)
        kept.append((found, [value.clone() for value in found]))
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert (one.dtype, one.stride()) == (other.dtype, other.stride())
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    for found, then in kept:  # results are the caller's: later runs do not change them
        assert all(map(torch.equal, found, then))
