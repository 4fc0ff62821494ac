"""Protects the limit on memory: what an operator allocates is known before it does."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from pte_foundry.upstream.torch_allocations import Allocations

LIMIT = 1 << 24
X = torch.ones(1, 1, 2, 2)


class TooLarge(Exception):
    pass


def report(count: int) -> None:
    if count > LIMIT:
        raise TooLarge(count)


LARGE = {
    "a size": lambda: torch.full((10**6, 10**6), 1.0),
    "of like": lambda: X.new_zeros(2**40),
    "a range": lambda: torch.arange(2**40),
    "repeated": lambda: X.repeat(2**31, 1, 1, 1),
    "a copy of a view": lambda: torch.ones(1).expand(10**12).clone(),
    "contiguous": lambda: torch.ones(1).expand(10**12).contiguous(),
    "broadcast": lambda: torch.ones(10**4, 1) + torch.ones(1, 10**4),
    "broadcast condition": lambda: torch.where(torch.ones(10**4, 1) > 0, 1.0, torch.ones(10**4)),
    "a product": lambda: torch.ones(10**4, 1) @ torch.ones(1, 10**4),
    "padded": lambda: F.pad(X, (2**31, 2**31)),
    "reflected": lambda: F.pad(torch.ones(1, 1, 4096, 4096), (4000,) * 4, "reflect"),
    "padded by a convolution": lambda: F.conv2d(X, X[..., :1, :1], padding=2**15),
    "spread by a convolution": lambda: F.conv_transpose2d(X, X[..., :1, :1], stride=2**20),
    "resized": lambda: F.interpolate(X, scale_factor=60000),
    "pooled": lambda: F.adaptive_avg_pool2d(X, (2**15, 2**15)),
    "one hot": lambda: F.one_hot(torch.tensor([1, 2]), 2**31),
    "joined": lambda: torch.cat([torch.ones(10**5)] * 100),
    "stacked": lambda: torch.stack([torch.ones(10**5)] * 100),
    "selected": lambda: torch.ones(10, 10**4).index_select(0, torch.zeros(10**3).long()),
    "indexed": lambda: torch.ones(10, 10**4)[torch.zeros(10**3).long()],
    "repeated by values": lambda: torch.tensor([2**40]).repeat_interleave(torch.tensor([2**40])),
    "into a result": lambda: torch.full((10**6, 10**6), 1.0, out=torch.empty(0)),
    "drawn": lambda: torch.rand(10**9),
    "as double": lambda: torch.ones(1).expand(10**9).double(),
    "pairs": lambda: torch.cdist(torch.ones(10**4, 1), torch.ones(10**4, 1)),
}


@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE)
def test_a_large_result_is_reported_before_it_is_computed(make):
    with pytest.raises(TooLarge), Allocations(report):
        make()


def test_nothing_small_is_reported_and_views_are_free():
    counts: list[int] = []
    with Allocations(counts.append):
        F.layer_norm(torch.relu(F.conv2d(torch.ones(1, 3, 64, 64), torch.ones(3, 3, 3, 3))), (62,))
        torch.ones(1).expand(10**12)
        torch.ones(100, 100).transpose(0, 1)[::2].unfold(0, 3, 1)
    assert counts == []


def test_a_result_is_reported_with_its_own_size():
    counts: list[int] = []
    x, half = torch.ones(1000, 1000), torch.ones(10**6, dtype=torch.float16)
    scale = torch.ones(64, 1, 1)
    image = torch.ones(1, 64, 128, 128)
    with Allocations(counts.append):
        x + x
        half * half
        x @ x
        image * scale
        F.conv2d(image, torch.ones(16, 64, 3, 3), padding=1)
    assert counts[:4] == [4 * 10**6, 2 * 10**6, 4 * 10**6, 4 * 2**20]
    assert counts[4] <= 4 * 64 * 130**2


def test_torchs_compiler_is_not_loaded():
    """Without the override, entering the mode imports 800 modules."""
    code = """
import sys, torch
from pte_foundry.upstream.torch_allocations import Allocations
with Allocations(print):
    torch.ones(3) + 1
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_upstream_still_loads_it_without_the_override():
    """If this fails: remove ``_should_skip_dynamo``."""
    assert Allocations.__mro__[1]._should_skip_dynamo() is True
