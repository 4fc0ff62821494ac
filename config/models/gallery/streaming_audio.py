"""Separates speech from noise as the sound arrives, 8 ms at a time, and remembers the past.

Shows states: buffers that ``forward()`` writes to become Core ML states on iOS 18 and macOS 15,
which the device keeps between the calls. On older systems ExecuTorch keeps them. ``play()`` streams
a recording chunk by chunk, as an app does, and what it returns is compared and scored. The states
are as they start before every sample. An app that cannot reset them feeds silence.

The last size of each state is a multiple of 32: others do not load on the Neural Engine.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RATE, CHUNK = 16_000, 128
FEATURES, FRAMES = 32, 4


class Denoiser(nn.Module):
    """Sound [1, 128] to the same sound, masked, and the mask [1, 32]."""

    def __init__(self) -> None:
        super().__init__()
        self.analysis = nn.Linear(2 * CHUNK, FEATURES, bias=False)
        self.context = nn.Linear(FRAMES * FEATURES, FEATURES)
        self.mask = nn.Linear(FEATURES, FEATURES)
        self.synthesis = nn.Linear(FEATURES, CHUNK, bias=False)
        self.register_buffer("heard", torch.zeros(1, CHUNK))
        self.register_buffer("past", torch.zeros(1, FRAMES - 1, FEATURES))

    def forward(self, sound: Tensor) -> dict[str, Tensor]:
        features = self.analysis(torch.cat([self.heard, sound], 1))
        frames = torch.cat([self.past, features[:, None]], 1)
        self.heard.copy_(sound)
        self.past.copy_(frames[:, 1:])
        mask = self.mask(F.relu(self.context(frames.flatten(1)))).sigmoid()
        return {"sound": self.synthesis(features * mask), "mask": mask}


def build() -> nn.Module:
    return Denoiser().eval()


def example_inputs() -> tuple[Tensor, ...]:
    return (torch.zeros(1, CHUNK),)


def evaluation() -> tuple[list[Tensor], None]:
    """Recordings of different lengths: a tone that fades, in noise."""
    random = torch.Generator().manual_seed(1)
    recordings = []
    for chunks, pitch in ((8, 440), (12, 660), (5, 220)):
        time = torch.arange(chunks * CHUNK) / RATE
        tone = torch.sin(2 * torch.pi * pitch * time) * torch.exp(-20 * time)
        recordings.append(tone[None] + 0.1 * torch.randn(1, len(time), generator=random))
    return recordings, None


def calibration() -> list[Tensor]:
    return evaluation()[0]


def play(run, sample: Tensor) -> dict[str, Tensor]:
    answers = [run("forward", chunk) for chunk in sample.split(CHUNK, dim=1)]
    return {name: torch.cat([a[name] for a in answers], 1) for name in ("sound", "mask")}
