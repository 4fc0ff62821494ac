"""Rewrites of operations on the bits of integers, which Core ML does not have.

Shifts and masks of low bits are divisions, products and remainders by powers of two; torch rounds
all three towards minus infinity in two's complement, as the bits do.
"""

import torch

aten = torch.ops.aten


def shift_left(x: torch.Tensor, bits: int) -> torch.Tensor:
    """``x * 2**bits``."""
    if not _is_whole(x) or not 0 <= bits < 31:
        return NotImplemented
    return aten.mul.Scalar(x, 1 << bits)


def shift_right(x: torch.Tensor, bits: int) -> torch.Tensor:
    """``x // 2**bits``."""
    if not _is_whole(x) or not 0 <= bits < 31:
        return NotImplemented
    return aten.div.Tensor_mode(x, 1 << bits, rounding_mode="floor")


def keep_low(x: torch.Tensor, mask: int) -> torch.Tensor:
    """``x % 2**n`` for the mask ``2**n - 1``; other masks stay outside of Core ML."""
    if not _is_whole(x) or not 0 < mask < 2**30 or mask & (mask + 1):
        return NotImplemented
    return aten.remainder.Scalar(x, mask + 1)


def _is_whole(x: torch.Tensor) -> bool:
    return not x.is_floating_point() and x.dtype != torch.bool


# Python's operators, ``x & 7``, become the named ones.
REWRITES = {
    aten.__and__.Scalar: lambda x, mask: aten.bitwise_and.Scalar(x, mask),
    aten.__lshift__.Scalar: lambda x, bits: aten.bitwise_left_shift.Tensor_Scalar(x, bits),
    aten.__rshift__.Scalar: lambda x, bits: aten.bitwise_right_shift.Tensor_Scalar(x, bits),
    aten.bitwise_and.Scalar: keep_low,
    aten.bitwise_left_shift.Tensor_Scalar: shift_left,
    aten.bitwise_right_shift.Tensor_Scalar: shift_right,
}
