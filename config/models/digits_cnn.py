"""A small CNN on handwritten digits, trained by `train()` in seconds.

weights  the state dict that `train()` makes, as safetensors
data     digits: scikit-learn, `sklearn/datasets/data/digits.csv.gz` (1,797 images of 8x8 pixels
         from 0 to 16, then the digit; E. Alpaydin and C. Kaynak, UCI, 1998)
options  epochs (12): passes over the training images
         calibration_samples (64): training images that set activation ranges
         evaluation_samples (300): held-out digits that a validation runs, at most 300
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

# Every sixth image is held out. The file goes writer by writer, so every writer is on both sides.
HOLD_OUT = 6
BATCH = 50
CLASSES = 10


class DigitsCnn(nn.Module):
    """Pixels [N, 1, 8, 8] from 0 to 16 to logits [N, 10]; the scaling is part of the graph.

    Rows and columns of the linear weights are multiples of 32 or 16, so that every grouped scheme
    divides them; hence a head with 16 rows, of which the last six are not used.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_convolution(1, 32), *_convolution(32, 64), nn.MaxPool2d(2), *_convolution(64, 64)
        )
        self.pool = nn.MaxPool2d(2)
        self.hidden = nn.Linear(64 * 2 * 2, 64)
        self.head = nn.Linear(64, 16)

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.pool(self.features(pixels / 16))
        hidden = F.relu(self.hidden(features.flatten(1)))
        return self.head(hidden)[:, :CLASSES]


def build(weights: Path) -> nn.Module:
    model = DigitsCnn()
    model.load_state_dict(load_file(weights))
    return model.eval()


def example_inputs() -> tuple[Tensor, ...]:
    return (torch.zeros(1, 1, 8, 8),)


def calibration(data: dict[str, Path], calibration_samples: int = 64) -> list[tuple[Tensor, ...]]:
    pixels, _ = _digits(data["digits"], held_out=False)
    return [(image[None],) for image in pixels[:calibration_samples]]


def evaluation(
    data: dict[str, Path], evaluation_samples: int = 300
) -> tuple[list[tuple[Tensor, ...]], Tensor]:
    pixels, labels = _digits(data["digits"], held_out=True)
    return [(image[None],) for image in pixels[:evaluation_samples]], labels[:evaluation_samples]


def score(outputs: list[tuple[Tensor, ...]], labels: Tensor) -> dict[str, float]:
    answers = torch.cat([logits for (logits,) in outputs]).argmax(1)
    return {"top1": answers.eq(labels).double().mean().item()}


def train(data: dict[str, Path], epochs: int = 12) -> dict[str, Tensor]:
    """The same state dict in every run with the same threads and instruction set."""
    pixels, labels = _digits(data["digits"], held_out=False)
    generator = torch.Generator().manual_seed(0)
    model = _initialized(DigitsCnn(), generator)
    batches = len(pixels) // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1e-2, total_steps=epochs * batches
    )
    for _ in range(epochs):
        for batch in torch.randperm(len(pixels), generator=generator)[: batches * BATCH].split(
            BATCH
        ):
            down, right = torch.randint(-1, 2, (2,), generator=generator).tolist()
            logits = model(_shifted(pixels[batch], down, right))
            optimizer.zero_grad()
            F.cross_entropy(logits, labels[batch], label_smoothing=0.1).backward()
            optimizer.step()
            schedule.step()
    return model.state_dict()


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


def _digits(path: Path, held_out: bool) -> tuple[Tensor, Tensor]:
    """Pixels [N, 1, 8, 8] as float32 from 0 to 16, and digits [N]."""
    table = torch.from_numpy(np.loadtxt(path, delimiter=",", dtype=np.float32))
    table = table[(torch.arange(len(table)) % HOLD_OUT == HOLD_OUT - 1) == held_out]
    return table[:, :-1].reshape(-1, 1, 8, 8), table[:, -1].long()


def _initialized(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """Weights from our own generator: torch's default init draws from the global one."""
    for part in model.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu", generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return model.train()


def _shifted(pixels: Tensor, down: int, right: int) -> Tensor:
    """The images moved by at most a pixel; what leaves on one side is background on the other."""
    height, width = pixels.shape[-2:]
    padded = F.pad(pixels, (1, 1, 1, 1))
    return padded[..., 1 - down : 1 - down + height, 1 - right : 1 - right + width]
