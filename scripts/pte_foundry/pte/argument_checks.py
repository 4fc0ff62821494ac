"""Checks of arguments that torch trusts: wrong ones crash it, or write outside of its memory.

All kernels of ExecuTorch's runtime were tried with random arguments and at the edges of each
(``tests/fuzz``); torch checks those of all others. Each check raises ProgramError.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from pte_foundry.errors import ProgramError


def _check_pdist(x: torch.Tensor, p: float = 2) -> None:
    if x.dim() != 2 or not x.is_floating_point() or not p >= 0:
        raise ProgramError(f"p {p} and a tensor of shape {list(x.shape)}, expected a float matrix")


def _check_batch_norm(
    x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, *rest: Any
) -> None:
    statistics = [value for value in rest if isinstance(value, torch.Tensor)]
    training = next((value for value in rest if isinstance(value, bool)), False)
    if not training and len(statistics) != 2:
        raise ProgramError("no statistics of a batch, and no running ones")
    for value in (weight, bias, *statistics):
        if value is not None and (x.dim() < 2 or value.shape != x.shape[1:2]):
            raise ProgramError(
                f"a parameter has shape {list(value.shape)} for an input of shape {list(x.shape)}"
            )


def _check_pool(grad: torch.Tensor, x: torch.Tensor, *rest: Any) -> None:
    indices = rest[-1]
    size = math.prod(x.shape[-2:]) if x.dim() > 2 else 0
    if indices.numel() and not 0 <= indices.min() <= indices.max() < size:
        raise ProgramError(f"an index is not within a plane of {size} elements")


def _check_division(x: torch.Tensor, y: Any, rounding_mode: str | None = None) -> None:
    y = torch.as_tensor(y)
    if rounding_mode != "trunc" or x.is_floating_point() or y.is_floating_point():
        return
    kind = torch.result_type(x, y)
    if kind != torch.bool and (y == -1).any() and (x == torch.iinfo(kind).min).any():
        raise ProgramError("the smallest integer divided by -1 is none")


CHECKED = {"rounding_mode"}
"""The arguments by name that checks take."""

CHECKS: dict[str, Callable[..., None]] = {
    "_pdist_forward": _check_pdist,
    "div": _check_division,
    "max_pool2d_with_indices_backward": _check_pool,
    "_native_batch_norm_legit": _check_batch_norm,
    "_native_batch_norm_legit_no_training": _check_batch_norm,
}
"""By operator of ATen: called with its arguments by position, and those in ``CHECKED``."""
