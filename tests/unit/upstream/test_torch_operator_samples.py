"""Protects the patterns of a sweep: torch's samples are found, and are the same each time."""

import random

import numpy as np
import torch
from pte_foundry.upstream import torch_operator_samples


def all_of(name, dtype=torch.float32):
    (info, *_) = torch_operator_samples.by_operator()[name]
    return list(torch_operator_samples.samples(info, dtype))


def test_samples_are_found_by_the_name_of_the_operator():
    found = torch_operator_samples.by_operator()
    for name in ("add", "conv2d", "embedding", "scaled_dot_product_attention", "layer_norm"):
        assert found[name]
    assert all(not info.name.startswith("masked.") for info in found["softmax"])


def test_samples_are_the_same_each_time():
    before = torch.random.get_rng_state(), random.getstate(), np.random.get_state()
    first, second = all_of("add"), all_of("add")
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2][1])
    assert len(first) == len(second) > 3
    for (args, kwargs), (others, other_kwargs) in zip(first, second, strict=True):
        assert kwargs == other_kwargs
        assert all(torch.equal(a, b) for a, b in zip(args, others, strict=True))
        assert not args[0].requires_grad


def test_a_dtype_that_the_operator_does_not_take_has_none():
    assert all_of("conv2d")
    assert not all_of("conv2d", torch.bool)
