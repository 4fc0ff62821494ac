"""A classifier of table rows that takes any number of rows at once, from 1 to 64.

Shows ``dynamic_shapes()`` with one dynamic dimension. The target decides what becomes of it: with
``shapes: range`` the artifact takes every size, with ``shapes: fixed`` the example's alone, which
is what the Neural Engine needs. Every sample can have another size.
"""

import torch
from torch import Tensor, nn
from torch.export import Dim

FEATURES, CLASSES, LARGEST_BATCH = 32, 16, 64


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CLASSES)
        )

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        logits = self.layers(rows)
        return {"logits": logits, "probabilities": logits.softmax(-1)}


def build() -> nn.Module:
    return Classifier().eval()


def example_inputs() -> tuple[Tensor, ...]:
    # At least 2: torch.export takes a size of 1 for a fixed one. The program still takes 1.
    return (torch.zeros(8, FEATURES),)


def dynamic_shapes() -> dict[str, dict[int, Dim]]:
    return {"rows": {0: Dim("batch", min=1, max=LARGEST_BATCH)}}


# Without calibration() and evaluation() the samples are seeded noise around the example: of its
# size and of both ends of the range. Real ones give reports that mean something.
