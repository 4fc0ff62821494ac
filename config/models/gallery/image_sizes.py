"""Separates foreground from background, in images of the few sizes that an app has.

Shows enumerated shapes: ``dynamic_shapes()`` says which dimensions may differ, and the config's
``enumerated_shapes`` list the sizes that occur. Core ML prepares each of them, so that the Neural
Engine can run them, which it does not do for a range. A target with ``shapes: range`` takes every
size of the range instead.
"""

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

SIZES = [(32, 32), (32, 48), (48, 32)]


class Segmenter(nn.Module):
    """Images [1, 3, H, W] from 0 to 1 to a mask [1, 1, H, W]; H and W are multiples of 4."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.coarse = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.narrow = nn.Conv2d(32, 16, 1)
        self.head = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        fine = F.relu(self.fine(image - 0.5))
        coarse = F.relu(self.coarse(fine))
        joined = fine + F.interpolate(self.narrow(coarse), scale_factor=2.0)
        return {"mask": F.interpolate(self.head(joined), scale_factor=2.0).sigmoid()}


def build() -> nn.Module:
    return Segmenter().eval()


def example_inputs() -> tuple[Tensor, ...]:
    return (torch.zeros(1, 3, *SIZES[0]),)


def dynamic_shapes() -> dict[str, dict[int, Dim]]:
    # 4 * Dim: the two strides divide every size.
    height, width = Dim("height", min=4, max=16), Dim("width", min=4, max=16)
    return {"image": {2: 4 * height, 3: 4 * width}}


def evaluation() -> tuple[list[tuple[Tensor, ...]], None]:
    random = torch.Generator().manual_seed(1)
    return [(torch.rand(1, 3, *size, generator=random),) for size in SIZES], None
