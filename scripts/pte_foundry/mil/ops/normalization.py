"""Normalizations (``iOS15`` and ``iOS17/normalization.py``)."""

import torch.nn.functional as F
from torch import Tensor

from pte_foundry.mil.parameters import Ints, Upcast
from pte_foundry.mil.registry import op


@op("batch_norm")
def batch_norm(
    *,
    x: Upcast,
    mean: Upcast,
    variance: Upcast,
    gamma: Upcast | None = None,
    beta: Upcast | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    return F.batch_norm(x, mean, variance, gamma, beta, eps=epsilon)


@op("instance_norm")
def instance_norm(
    *, x: Upcast, gamma: Upcast | None = None, beta: Upcast | None = None, epsilon: float = 1e-5
) -> Tensor:
    return F.instance_norm(x, weight=gamma, bias=beta, eps=epsilon)


@op("l2_norm")
def l2_norm(*, x: Upcast, epsilon: float = 1e-6) -> Tensor:
    # Over the last three dimensions; all others are batch.
    return x / ((x * x).sum((-3, -2, -1), keepdim=True) + epsilon).sqrt()


@op("layer_norm")
def layer_norm(
    *,
    x: Upcast,
    axes: Ints | None = None,
    gamma: Upcast | None = None,
    beta: Upcast | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    axes = sorted(a % x.ndim for a in axes) if axes is not None else list(range(x.ndim))
    if axes == list(range(x.ndim - len(axes), x.ndim)):
        return F.layer_norm(x, [x.shape[a] for a in axes], gamma, beta, epsilon)
    shape = [n if a in axes else 1 for a, n in enumerate(x.shape)]
    centred = x - x.mean(axes, keepdim=True)
    result = centred / ((centred * centred).mean(axes, keepdim=True) + epsilon).sqrt()
    result = result if gamma is None else result * gamma.reshape(shape)
    return result if beta is None else result + beta.reshape(shape)


@op("local_response_norm")
def local_response_norm(
    *, x: Upcast, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    # MIL and torch divide alpha by size; for an even size torch starts one channel earlier.
    return F.local_response_norm(x, size, alpha, beta, k)
