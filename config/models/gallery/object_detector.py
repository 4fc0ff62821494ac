"""Finds objects in an image: boxes and scores of all anchors, for the app to select from.

Shows several outputs with names, of different scales: the keys of the returned dict are their names
in reports, in the artifact and in Swift. Each is judged by itself, so boxes in pixels do not hide
wrong scores.

The selection (non-maximum suppression) is not part of the program. torchvision's ``nms`` has as
many outputs as it finds, which neither the Neural Engine nor Core ML's delegate takes well, and on
a few hundred anchors it costs an app nothing.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZE, CLASSES, STRIDES, SCALES = 64, 5, (8, 16), (1.0, 2.0)


class Detector(nn.Module):
    """Images [1, 3, 64, 64] from 0 to 1 to boxes [1, 160, 4] and scores [1, 160, 5].

    Boxes are (left, top, right, bottom) in pixels. The first class is the background.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_block(3, 16), _block(16, 32), _block(32, 32))
        self.down = _block(32, 32)
        per_place = len(SCALES) * (4 + CLASSES)
        self.heads = nn.ModuleList(nn.Conv2d(32, per_place, 3, padding=1) for _ in STRIDES)
        self.register_buffer("anchors", _anchors())

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        fine = self.stem(image - 0.5)
        maps = zip(self.heads, (fine, self.down(fine)), strict=True)
        found = [head(x).permute(0, 2, 3, 1).reshape(1, -1, 4 + CLASSES) for head, x in maps]
        offsets, logits = torch.cat(found, 1).split([4, CLASSES], -1)
        place, extent = self.anchors.split(2, -1)
        center = place + offsets[..., :2] * extent * 0.1
        half = extent * torch.exp(offsets[..., 2:] * 0.2) / 2
        boxes = torch.cat([center - half, center + half], -1).clamp(0, SIZE)
        return {"boxes": boxes, "scores": logits.softmax(-1)}


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


def _anchors() -> Tensor:
    """(x, y, width, height) of every anchor in pixels, [1, 160, 4]."""
    found = []
    for stride in STRIDES:
        middle = torch.arange(stride / 2, SIZE, stride)
        for y, x in torch.cartesian_prod(middle, middle).tolist():
            found += [(x, y, scale * stride, scale * stride) for scale in SCALES]
    return torch.tensor(found)[None]


def build() -> nn.Module:
    return Detector().eval()


def example_inputs() -> tuple[Tensor, ...]:
    return (torch.zeros(1, 3, SIZE, SIZE),)


def evaluation() -> tuple[list[tuple[Tensor, ...]], None]:
    """Coarse noise, enlarged: images have large areas of one colour."""
    random = torch.Generator().manual_seed(1)
    draw = [torch.rand(1, 3, 8, 8, generator=random) for _ in range(4)]
    return [(F.interpolate(coarse, scale_factor=SIZE // 8),) for coarse in draw], None
