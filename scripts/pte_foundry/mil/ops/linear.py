"""Matrix products (``iOS15`` and ``iOS17/linear.py``)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pte_foundry.mil.parameters import Upcast, UpcastTensors
from pte_foundry.mil.registry import op


@op("linear")
def linear(*, x: Upcast, weight: Upcast, bias: Upcast | None = None) -> Tensor:
    return F.linear(x, weight, bias)


@op("matmul")
def matmul(*, x: Upcast, y: Upcast, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    # Transposing has no effect on a vector.
    if transpose_x and x.ndim > 1:
        x = x.mT
    if transpose_y and y.ndim > 1:
        y = y.mT
    return torch.matmul(x, y)


@op("einsum")
def einsum(*, values: UpcastTensors, equation: str) -> Tensor:
    return torch.einsum(equation, *values)
