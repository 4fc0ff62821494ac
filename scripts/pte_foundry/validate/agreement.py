"""Argmax agreement: whether two programs choose the same class.

An argmax means something only along an axis of classes. Of hidden states, embeddings, pixels or
boxes it does not, and shapes cannot tell them from logits. The labels can: an output has a class
axis if there is an integer label for each of its remaining positions and all labels are indices
into that axis. A negative label (such as -100, which cross entropy ignores) excludes its position.
Models without such labels define ``agreement()``, if an argmax of theirs means something.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from pte_foundry.models.tensors import Sample
from pte_foundry.validate.output_metrics import Pair, as_vector


class ClassAxis(NamedTuple):
    """The class axis of a program's outputs.

    Attributes:
        output: position of the output.
        axis: the last one, or 1 as in ``cross_entropy`` on [N, C, H, W].
    """

    output: int
    axis: int


def class_axis(reference: Sequence[Sample], labels: torch.Tensor | None) -> ClassAxis | None:
    """Returns the class axis of the reference; of several, the one that predicts the labels best.

    Args:
        reference: for each sample its outputs.
        labels: one row for each sample, or none.
    """
    if not isinstance(labels, torch.Tensor) or not _are_indices(labels):
        return None
    candidates = [
        ClassAxis(output, axis)
        for output in range(min(map(len, reference)))
        for axis in (-1, 1)
        if all(_fits(s[output], axis, row) for s, row in zip(reference, labels, strict=True))
    ]
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    return max(candidates, key=lambda at: _accuracy(reference, at, labels))


def top1_agreement(
    pairs: Sequence[Pair], axis: int, labels: torch.Tensor | None = None
) -> float | None:
    """Returns the share of equal argmax along an axis, of all samples and positions.

    Args:
        pairs: for each sample, the output and the reference, of one shape.
        axis: the class axis.
        labels: one row for each sample; positions with a negative one are left out.
    """
    equal = total = 0
    for sample, (out, ref) in enumerate(pairs):
        if out.shape != ref.shape:
            return None
        ours, theirs = _rows(out, axis), _rows(ref, axis)
        # A row with a nan has no top class.
        same = (ours.argmax(-1) == theirs.argmax(-1)) & ~np.isnan(ours).any(-1)
        same &= ~np.isnan(theirs).any(-1)
        used = slice(None) if labels is None else labels[sample].flatten().cpu().numpy() >= 0
        equal += int(same[used].sum())
        total += len(same[used])
    return equal / total if total else None


def _are_indices(labels: torch.Tensor) -> bool:
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    return whole and labels.numel() > 0 and bool((labels >= 0).any())


def _fits(output: torch.Tensor, axis: int, row: torch.Tensor) -> bool:
    """Whether a row of labels holds an index into the axis for each position outside of it."""
    if not output.is_floating_point() or output.dim() < (3 if axis == 1 else 1):
        return False
    sizes = list(output.shape)
    classes = sizes.pop(axis)
    # A sample's batch of one is an axis of the output, but not of its label.
    positions, given = ([size for size in of if size != 1] for of in (sizes, row.shape))
    return classes > 1 and positions == given and int(row.max()) < classes


def _accuracy(reference: Sequence[Sample], at: ClassAxis, labels: torch.Tensor) -> int:
    """Number of positions where the reference's argmax is the label."""
    return sum(
        int(np.sum(_rows(s[at.output], at.axis).argmax(-1) == row.flatten().cpu().numpy()))
        for s, row in zip(reference, labels, strict=True)
    )


def _rows(tensor: torch.Tensor, axis: int) -> np.ndarray:
    """A row of classes for each position, float64 [positions, classes].

    numpy's argmax takes the first of equal values, on every machine.
    """
    return as_vector(tensor.movedim(axis, -1)).reshape(-1, tensor.shape[axis])
