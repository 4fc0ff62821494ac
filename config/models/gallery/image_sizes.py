"""Doubles the resolution of images, of the few sizes that an app has.

Shows enumerated shapes: ``dynamic_shapes()`` says which dimensions may differ, and the config's
``enumerated_shapes`` list the sizes that occur. Core ML prepares each of them, so that the Neural
Engine can run them, which it does not do for a range. A target with ``shapes: range`` takes every
size of the range instead.

The network has to take every size of the range, for torch and Core ML know no multiples of 4: a
network with strides would pad its images first.
"""

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

SIZES = [(24, 32), (32, 24), (32, 32)]


class Upscaler(nn.Module):
    """Images [1, 3, H, W] from 0 to 1 to images [1, 3, 2H, 2W]."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 24, 5, padding=2)
        self.second = nn.Conv2d(24, 24, 3, padding=1)
        self.last = nn.Conv2d(24, 12, 3, padding=1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = F.relu(self.first(image - 0.5))
        x = F.relu(self.second(x))
        # Each of the 12 channels is a colour of one of 4 new pixels.
        details = F.pixel_shuffle(self.last(x), 2)
        return {"enlarged": F.interpolate(image, scale_factor=2.0) + details}


def build() -> nn.Module:
    return Upscaler().eval()


def example_inputs() -> tuple[Tensor, ...]:
    return (torch.zeros(1, 3, *SIZES[0]),)


def dynamic_shapes() -> dict[str, dict[int, Dim]]:
    return {"image": {2: Dim("height", min=8, max=64), 3: Dim("width", min=8, max=64)}}


def evaluation() -> tuple[list[tuple[Tensor, ...]], None]:
    random = torch.Generator().manual_seed(1)
    return [(torch.rand(1, 3, *size, generator=random),) for size in SIZES], None
