"""Weights as integers that a model's file already holds, for the scheme ``as_stored``."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Stored:
    """The weight of a linear or an embedding: ``(codes - zero) * scale``.

    Attributes:
        codes: int8 [rows, columns]; of four bits, -8 to 7.
        scale: fp32 [rows, groups].
        zero: fp32 [rows, groups], whole or not.
        bits: 4 or 8.
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor
    bits: int

    @property
    def group(self) -> int:
        """Values of a row that share a scale."""
        return self.codes.shape[1] // self.scale.shape[1]

    def values(self) -> Tensor:
        """Returns the weight, fp32."""
        groups = self.codes.float().unflatten(1, (-1, self.group))
        return ((groups - self.zero[..., None]) * self.scale[..., None]).flatten(1)
