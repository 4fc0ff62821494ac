"""Activations (``iOS15/activation.py``; iOS17 only lets parameters have another float dtype)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pte_foundry.mil.parameters import Wide
from pte_foundry.mil.registry import op


def per_channel(parameter: Tensor, x: Tensor) -> Tensor:
    """Shapes a parameter ``[C]`` to broadcast along dimension 1 of ``x``."""
    return parameter.reshape(1, -1, *[1] * (x.ndim - 2))


@op("clamped_relu")
def clamped_relu(*, x: Wide, alpha: float, beta: float) -> Tensor:
    return torch.where(x >= 0, x, alpha * x).clamp(max=beta)


@op("elu")
def elu(*, x: Wide, alpha: float) -> Tensor:
    return torch.where(x > 0, x, alpha * torch.expm1(x))


@op("gelu")
def gelu(*, x: Wide, mode: str = "EXACT") -> Tensor:
    match mode:
        case "EXACT":
            return F.gelu(x)
        case "TANH_APPROXIMATION":
            return F.gelu(x, approximate="tanh")
        case "SIGMOID_APPROXIMATION":
            return x * torch.sigmoid(1.702 * x)
    raise ValueError(f"unknown mode {mode!r}")


@op("leaky_relu")
def leaky_relu(*, x: Wide, alpha: float) -> Tensor:
    return torch.where(x >= 0, x, alpha * x)


@op("linear_activation")
def linear_activation(*, x: Wide, alpha: float, beta: float) -> Tensor:
    return alpha * x + beta


@op("prelu")
def prelu(*, x: Wide, alpha: Wide) -> Tensor:
    return torch.where(x > 0, x, per_channel(alpha, x) * x)


@op("relu")
def relu(*, x: Tensor) -> Tensor:
    return x.relu()


@op("relu6")
def relu6(*, x: Tensor) -> Tensor:
    return x.clamp(0, 6)


@op("scaled_tanh")
def scaled_tanh(*, x: Wide, alpha: float, beta: float) -> Tensor:
    return alpha * torch.tanh(beta * x)


@op("sigmoid")
def sigmoid(*, x: Wide) -> Tensor:
    return x.sigmoid()


@op("sigmoid_hard")
def sigmoid_hard(*, x: Wide, alpha: float, beta: float) -> Tensor:
    return (alpha * x + beta).clamp(0, 1)


@op("silu")
def silu(*, x: Wide) -> Tensor:
    return F.silu(x)


@op("softplus")
def softplus(*, x: Wide) -> Tensor:
    # Not F.softplus: that one returns x itself above a threshold.
    return torch.log1p(torch.exp(-x.abs())) + x.relu()


@op("softplus_parametric")
def softplus_parametric(*, x: Wide, alpha: Wide, beta: Wide) -> Tensor:
    return per_channel(alpha, x) * softplus(x=per_channel(beta, x) * x)


@op("softmax")
def softmax(*, x: Wide, axis: int = -1) -> Tensor:
    return x.softmax(axis)


@op("softsign")
def softsign(*, x: Wide) -> Tensor:
    return x / (1 + x.abs())


@op("thresholded_relu")
def thresholded_relu(*, x: Wide, alpha: float) -> Tensor:
    return torch.where(x >= alpha, x, 0)
