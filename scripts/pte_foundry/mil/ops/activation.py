"""Activations (``iOS15/activation.py``; iOS17 only allows parameters of another float dtype)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pte_foundry.mil.parameters import Upcast
from pte_foundry.mil.registry import op


def per_channel(parameter: Tensor, x: Tensor) -> Tensor:
    """Reshape a parameter ``[C]`` to broadcast along dimension 1 of ``x``."""
    return parameter.reshape(1, -1, *[1] * (x.ndim - 2))


@op("clamped_relu")
def clamped_relu(*, x: Upcast, alpha: float, beta: float) -> Tensor:
    return torch.where(x >= 0, x, alpha * x).clamp(max=beta)


@op("elu")
def elu(*, x: Upcast, alpha: float) -> Tensor:
    return torch.where(x > 0, x, alpha * torch.expm1(x))


@op("gelu")
def gelu(*, x: Upcast, mode: str = "EXACT") -> Tensor:
    match mode:
        case "EXACT":
            return F.gelu(x)
        case "TANH_APPROXIMATION":
            return F.gelu(x, approximate="tanh")
        case "SIGMOID_APPROXIMATION":
            return x * torch.sigmoid(1.702 * x)
    raise ValueError(f"unknown mode {mode!r}")


@op("leaky_relu")
def leaky_relu(*, x: Upcast, alpha: float) -> Tensor:
    return torch.where(x >= 0, x, alpha * x)


@op("linear_activation")
def linear_activation(*, x: Upcast, alpha: float, beta: float) -> Tensor:
    return alpha * x + beta


@op("prelu")
def prelu(*, x: Upcast, alpha: Upcast) -> Tensor:
    return torch.where(x > 0, x, per_channel(alpha, x) * x)


@op("relu")
def relu(*, x: Tensor) -> Tensor:
    return x.relu()


@op("relu6")
def relu6(*, x: Tensor) -> Tensor:
    return x.clamp(0, 6)


@op("scaled_tanh")
def scaled_tanh(*, x: Upcast, alpha: float, beta: float) -> Tensor:
    return alpha * torch.tanh(beta * x)


@op("sigmoid")
def sigmoid(*, x: Upcast) -> Tensor:
    return x.sigmoid()


@op("sigmoid_hard")
def sigmoid_hard(*, x: Upcast, alpha: float, beta: float) -> Tensor:
    return (alpha * x + beta).clamp(0, 1)


@op("silu", direct=F.silu)
def silu(*, x: Upcast) -> Tensor:
    return F.silu(x)


@op("softplus")
def softplus(*, x: Upcast) -> Tensor:
    # F.softplus returns x itself above a threshold.
    return torch.log1p(torch.exp(-x.abs())) + x.relu()


@op("softplus_parametric")
def softplus_parametric(*, x: Upcast, alpha: Upcast, beta: Upcast) -> Tensor:
    return per_channel(alpha, x) * softplus(x=per_channel(beta, x) * x)


@op("softmax", direct=torch.softmax)
def softmax(*, x: Upcast, axis: int = -1) -> Tensor:
    return x.softmax(axis)


@op("softsign")
def softsign(*, x: Upcast) -> Tensor:
    return x / (1 + x.abs())


@op("thresholded_relu")
def thresholded_relu(*, x: Upcast, alpha: float) -> Tensor:
    return torch.where(x >= alpha, x, 0)
