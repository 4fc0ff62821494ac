"""Random tensors (``iOS15/random.py``): of the documented distributions, not Apple's numbers.

Core ML does not document its generator, so its numbers cannot be reproduced. Here every run of a
program draws the same numbers, on every machine, so that results are reproducible.

- With a seed, an operation draws the same numbers whenever it is executed.
- Without one (-1, the default), it continues one stream that restarts with every run of a function,
  so that operations, and the iterations of a loop, draw different numbers.
"""

import math
from contextvars import ContextVar

import numpy as np
import torch
from torch import Tensor

from pte_foundry import limits
from pte_foundry.mil.parameters import Ints, Upcast
from pte_foundry.mil.registry import op

_ZERO, _HALF, _ONE = torch.zeros(()), torch.tensor(0.5), torch.ones(())
_UNSEEDED = -1

_stream: ContextVar[np.random.Generator] = ContextVar("_stream")


def restart_stream() -> None:
    """Start the stream of a run's operations without a seed."""
    _stream.set(np.random.Generator(np.random.PCG64(0)))


def _generator(seed: int) -> np.random.Generator:
    if seed == _UNSEEDED:
        return _stream.get()
    return np.random.Generator(np.random.PCG64(seed % 2**32))


def _sized(*shape: int) -> tuple[int, ...]:
    """A shape that numpy may fill with fp64: torch's limits do not see its memory."""
    limits.allocate(8 * max(math.prod(shape), 0))
    return shape


def _tensor(values: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(values)).to(like.dtype)


@op("random_bernoulli", sized=True)
def random_bernoulli(*, shape: Ints, prob: Tensor = _HALF, seed: int = _UNSEEDED) -> Tensor:
    return _tensor(_generator(seed).random(_sized(*shape)) < prob.item(), prob)


@op("random_categorical", sized=True)
def random_categorical(
    *, x: Upcast, mode: str = "logits", size: int = 1, seed: int = _UNSEEDED
) -> Tensor:
    if mode not in ("logits", "probs"):
        raise ValueError(f"unknown mode {mode!r}")
    shares = (x.double().softmax(-1) if mode == "logits" else x.double()).cumsum(-1)
    total = shares[..., -1:]
    if not (total > 0).all():
        raise ValueError("the probabilities of a distribution have no positive sum")
    drawn = torch.from_numpy(_generator(seed).random(_sized(*x.shape[:-1], size)))
    # The first class at which the cumulative probability exceeds the number drawn.
    return torch.searchsorted(shares / total, drawn, right=True).to(x.dtype)


@op("random_normal", sized=True)
def random_normal(
    *, shape: Ints, mean: Tensor = _ZERO, stddev: Tensor = _ONE, seed: int = _UNSEEDED
) -> Tensor:
    normal = _generator(seed).standard_normal(_sized(*shape))
    return _tensor(normal * stddev.item() + mean.item(), mean)


@op("random_uniform", sized=True)
def random_uniform(
    *, shape: Ints, low: Tensor = _ZERO, high: Tensor = _ONE, seed: int = _UNSEEDED
) -> Tensor:
    if high < low:
        raise ValueError(f"the interval [{low.item()}, {high.item()}) is undefined")
    drawn = _generator(seed).random(_sized(*shape))
    # The documented interval excludes `high`, but rounding reaches it, mostly in fp16. It does in
    # Core ML too: in apple/coremltools#2568 a 100 is among integers drawn below 100.
    return _tensor(low.item() + (high.item() - low.item()) * drawn, low)
