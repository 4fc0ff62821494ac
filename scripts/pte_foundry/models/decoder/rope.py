"""Rotary position embeddings (RoPE) as tables of cosines and sines.

Angles in fp16 lose the position: at 2,048 its step is 2. So the tables are constants, made in fp32
as transformers makes them, and a program only looks rows up.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pte_foundry.errors import ModelError

Frequencies = tuple[float, ...]
"""The angle that a position adds, for each pair of a head's dimensions."""


def frequencies(parameters: Mapping[str, Any], head_dim: int) -> Frequencies:
    """Returns the frequencies that ``rope_parameters`` of a config describe.

    Raises:
        ModelError: they describe a kind that is not supported.
    """
    kind = parameters.get("rope_type", "default")
    if kind not in SCALINGS:
        raise ModelError(
            f"has rope_type {kind!r}, which is not supported; allowed: {', '.join(SCALINGS)}"
        )
    if parameters.get("partial_rotary_factor") not in (None, 1, 1.0):
        raise ModelError(
            f"has partial_rotary_factor {parameters['partial_rotary_factor']}, which is not "
            "supported; allowed: 1.0"
        )
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    plain = 1.0 / (parameters["rope_theta"] ** exponents)
    return tuple(SCALINGS[kind](plain, parameters).tolist())


def _default(plain: Tensor, _parameters: Mapping[str, Any]) -> Tensor:
    return plain


def _linear(plain: Tensor, parameters: Mapping[str, Any]) -> Tensor:
    return plain / parameters["factor"]


def _llama3(plain: Tensor, parameters: Mapping[str, Any]) -> Tensor:
    """Llama 3.1: long waves are stretched, short ones kept, and those between interpolated."""
    factor, trained = parameters["factor"], parameters["original_max_position_embeddings"]
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    turns = trained / (2 * math.pi / plain)
    share = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - share) * plain / factor + share * plain


SCALINGS = {"default": _default, "linear": _linear, "llama3": _llama3}
"""By ``rope_type``: the frequencies from those without scaling."""


def table(rope: Frequencies, positions: int) -> Tensor:
    """Returns the cosines and then the sines of each position, fp32 [positions, head_dim]."""
    angles = torch.arange(positions)[:, None].float() * torch.tensor(rope)
    return torch.cat((angles.cos(), angles.sin()), -1)


def rotation(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Returns what :func:`rotated` multiplies with, by rows of the table, each [T, head_dim]."""
    cosines, sines = rows.chunk(2, -1)
    return torch.cat((cosines, cosines), -1), torch.cat((-sines, sines), -1)


def rotated(heads: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotates queries or keys, [1, heads, T, head_dim], by a :func:`rotation`."""
    first, second = heads.chunk(2, -1)
    return heads * cosines + torch.cat((second, first), -1) * sines
