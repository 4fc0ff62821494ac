"""Control flow (``iOS15/control_flow.py``); operations on lists are in ``lists.py``."""

import torch
from torch import Tensor

from pte_foundry.mil.parameters import Blocks, TensorsOrLists
from pte_foundry.mil.registry import op


@op("cond")
def cond(*, pred: bool, blocks: Blocks) -> TensorsOrLists:
    when_true, when_false = blocks
    return when_true() if pred else when_false()


@op("select")
def select(*, cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    if _are_rows(cond, a, b):  # as few large elements, since torch takes them one by one
        row, wide = cond.narrow(-1, 0, 1), torch.int64
        return torch.where(row, a.view(wide), b.view(wide)).view(a.dtype)
    return torch.where(cond, a, b)


def _are_rows(cond: Tensor, *choices: Tensor) -> bool:
    """Whether whole rows of two tensors are chosen, which are laid out in units of 8 bytes."""
    a, b = choices
    return (
        0 < cond.ndim <= a.ndim
        and (cond.shape[-1] == 1 or not cond.stride(-1))
        and a.shape == b.shape
        and a.dtype is b.dtype
        and a.shape[-1] * a.itemsize % 8 == 0
        and all(c.is_contiguous() and c.storage_offset() * c.itemsize % 8 == 0 for c in choices)
    )


@op("while_loop")
def while_loop(*, loop_vars: TensorsOrLists, blocks: Blocks) -> TensorsOrLists:
    condition, body = blocks
    while bool(condition(*loop_vars)[0]):
        loop_vars = body(*loop_vars)
    return loop_vars
