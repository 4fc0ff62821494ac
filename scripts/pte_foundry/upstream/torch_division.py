"""Integer division that does not end the process.

Stands against: torch 2.13.0
Repairs: ``torch.div(x, -1, rounding_mode="trunc")`` of the smallest int32 or int64, which ends the
    process by SIGFPE on x86-64.
Remove when: torch wraps the quotient, as it does for int8 and int16, and as arm64 does.
"""

import torch
from torch import Tensor


def truncated_quotient(x: Tensor, y: Tensor) -> Tensor:
    """Return integers divided and rounded towards zero; the smallest one by -1 is itself.

    Raises:
        RuntimeError: a divisor is zero.
    """
    negated = y == -1
    quotient = torch.div(x, torch.where(negated, 1, y), rounding_mode="trunc")
    return torch.where(negated, -x, quotient)
