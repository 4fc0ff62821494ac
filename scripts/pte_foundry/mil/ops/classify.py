"""The end of a classifier (``iOS15/classify.py``)."""

import torch
from torch import Tensor

from pte_foundry.mil.parameters import ClassLabels
from pte_foundry.mil.registry import op


@op("classify")
def classify(
    *, probabilities: Tensor, classes: ClassLabels
) -> tuple[Tensor | str, dict[str, float] | dict[int, float]]:
    values = probabilities.flatten()
    if len(values) != len(classes):
        raise ValueError(f"{len(values)} probabilities for {len(classes)} classes")
    # Of equal probabilities the first wins; the documentation does not say which.
    label = classes[int(values.argmax())]
    if not isinstance(label, str):
        label = torch.tensor(label, dtype=torch.int64)
    return label, dict(zip(classes, values.tolist(), strict=True))
