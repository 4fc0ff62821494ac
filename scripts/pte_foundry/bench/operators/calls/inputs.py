"""Small deterministic inputs."""

from __future__ import annotations

import torch


def normal(*shape: int, scale: float = 1.0) -> torch.Tensor:
    """Returns fp32 values of a normal distribution."""
    return torch.randn(shape, generator=_generator(shape)) * scale


def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
    """Returns fp32 values between two."""
    return torch.rand(shape, generator=_generator(shape)) * (high - low) + low


def integers(low: int, high: int, *shape: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    """Returns integers from ``low`` to ``high - 1``."""
    return torch.randint(low, high, shape, generator=_generator(shape), dtype=dtype)


def booleans(*shape: int) -> torch.Tensor:
    """Returns values of which about half are true; the first is."""
    values = torch.rand(shape, generator=_generator(shape)) < 0.5
    values.view(-1)[0] = True
    return values


def distinct(*shape: int) -> torch.Tensor:
    """Returns fp32 values that all differ, in fp16 too, in no order; up to 2,000 of them."""
    count = torch.Size(shape).numel()
    order = torch.randperm(count, generator=_generator(shape))
    return (order - count // 2).float().reshape(shape) / 8


def spiky(*shape: int) -> torch.Tensor:
    """Returns values of which one of every row is a thousand times larger; a row is zero."""
    values = normal(*shape)
    values[..., 0] *= 1000
    values.view(-1, shape[-1])[-1] = 0
    return values


def _generator(shape: tuple[int, ...]) -> torch.Generator:
    return torch.Generator().manual_seed(sum(shape) + len(shape))
