"""The output of a classifier (``iOS15/classify.py``)."""

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
    # Ties: the first class. The documentation does not specify it.
    label = classes[int(values.argmax())]
    if not isinstance(label, str):
        label = torch.tensor(label, dtype=torch.int64)
    return label, dict(zip(classes, values.tolist(), strict=True))
