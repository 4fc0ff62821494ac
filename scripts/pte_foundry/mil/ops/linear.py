"""Matrix products (``iOS15`` and ``iOS17/linear.py``)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pte_foundry.mil.parameters import Upcast, UpcastTensors
from pte_foundry.mil.registry import op

# From iOS17 on a constant operand may have another dtype than the rest; the result has the dtype of
# the operand that is no constant (iOS17/linear.py).


def _mixed(*operands: Tensor | None) -> list[Tensor | None]:
    """Integers as fp32 where an operand is a float; torch multiplies equal dtypes only."""
    return [o if o is None or o.is_floating_point() else o.float() for o in operands]


@op("linear", casts=True)
def linear(*, x: Upcast, weight: Upcast, bias: Upcast | None = None) -> Tensor:
    if x.dtype != weight.dtype:
        x, weight, bias = _mixed(x, weight, bias)
    return F.linear(x, weight, bias)


@op("matmul", casts=True)
def matmul(*, x: Upcast, y: Upcast, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    # Transposing has no effect on a vector.
    if transpose_x and x.ndim > 1:
        x = x.mT
    if transpose_y and y.ndim > 1:
        y = y.mT
    if x.dtype != y.dtype:
        x, y = _mixed(x, y)
    if x.ndim == y.ndim > 3 and y.shape[-3] == 1 < x.shape[-3] and x.shape[:-3] == y.shape[:-3]:
        # The heads of a group share y; torch would copy it for each of them.
        return torch.matmul(x.flatten(-3, -2), y.squeeze(-3)).unflatten(-2, x.shape[-3:-1])
    return torch.matmul(x, y)


@op("einsum")
def einsum(*, values: UpcastTensors, equation: str) -> Tensor:
    return torch.einsum(equation, *values)
