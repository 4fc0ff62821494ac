"""Samples for a model that defines none: seeded values around its example inputs.

They show that a program computes what the model computes, not how good it is at its task, so every
report names them as synthetic. Floats have the example's mean and standard deviation (1 if it is
constant), integers and booleans are drawn from the range of the example's values.
"""

from __future__ import annotations

from itertools import cycle, islice

import numpy as np
import torch

from pte_foundry.models.sizes import Sizes
from pte_foundry.models.tensors import Sample

SEEDS = {"calibration": 1, "evaluation": 2}
COUNTS = {"calibration": 16, "evaluation": 8}


def default_samples(
    example: Sample, function: str, count: int | None = None, sizes: Sizes | None = None
) -> list[Sample]:
    """Returns samples in place of those that ``calibration()`` or ``evaluation()`` would give.

    Args:
        example: the tensors of ``example_inputs()``.
        function: a key of ``SEEDS``.
        count: how many; None: as ``COUNTS`` says.
        sizes: of the inputs; samples take the example's shape and the ends of the ranges in turn,
            or the enumerated shapes.
    """
    # numpy's generator gives the same numbers on every machine, torch's does not promise it.
    generator = np.random.default_rng(SEEDS[function])
    wanted = COUNTS[function] if count is None else min(count, COUNTS[function])
    own = [tuple(tensor.shape for tensor in example)]
    choices = cycle(own if sizes is None else sizes.choices(example))
    return [
        tuple(_around(*pair, generator) for pair in zip(example, shapes, strict=True))
        for shapes in islice(choices, wanted)
    ]


def _around(
    tensor: torch.Tensor, shape: tuple[int, ...], generator: np.random.Generator
) -> torch.Tensor:
    values = tensor.detach().cpu().numpy()
    if not values.size:
        return tensor.clone()
    same = values.shape == tuple(shape)
    if tensor.is_floating_point():
        finite = values[np.isfinite(values)].astype(np.float64)
        mean, deviation = (finite.mean(), finite.std()) if finite.size else (0.0, 0.0)
        # Few digits, because sums depend on the instruction set in the last ones.
        mean, deviation = float(f"{mean:.5g}"), float(f"{deviation:.5g}") or 1.0
        drawn = generator.standard_normal(shape) * deviation + mean
        if same:
            drawn = np.where(np.isfinite(values), drawn, values)  # infinities are masks
    else:
        low, high = int(values.min()), int(values.max())
        drawn = generator.integers(low, high, shape, dtype=np.int64, endpoint=True)
    return torch.from_numpy(np.asarray(drawn)).to(tensor.dtype)
