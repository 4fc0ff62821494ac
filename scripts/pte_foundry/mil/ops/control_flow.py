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
    return torch.where(cond, a, b)


@op("while_loop")
def while_loop(*, loop_vars: TensorsOrLists, blocks: Blocks) -> TensorsOrLists:
    condition, body = blocks
    while bool(condition(*loop_vars)[0]):
        loop_vars = body(*loop_vars)
    return loop_vars
