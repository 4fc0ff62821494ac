"""Separates speech from noise as the sound arrives, 10 ms at a time, and remembers the past.

Shows a state: a buffer that ``forward()`` writes to becomes a Core ML state on iOS 18 and macOS 15,
which the device keeps between the calls. On older systems ExecuTorch keeps it. ``play()`` streams a
recording chunk by chunk, as an app does, and what it returns is compared and scored. The state is
as it starts before every sample. An app that cannot reset it feeds silence.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RATE, CHUNK = 16_000, 160
WINDOW, FEATURES = 320, 32


class Denoiser(nn.Module):
    """Sound [1, 160] to the same sound, masked; each chunk comes out one chunk later."""

    def __init__(self) -> None:
        super().__init__()
        self.analysis = nn.Conv1d(1, FEATURES, WINDOW, stride=CHUNK, bias=False)
        self.context = nn.Conv1d(FEATURES, FEATURES, 4)
        self.mask = nn.Conv1d(FEATURES, FEATURES, 1)
        self.synthesis = nn.Conv1d(FEATURES, CHUNK, 1)
        self.register_buffer("heard", torch.zeros(1, 1, WINDOW - CHUNK))
        self.register_buffer("past", torch.zeros(1, FEATURES, 3))

    def forward(self, sound: Tensor) -> dict[str, Tensor]:
        window = torch.cat([self.heard, sound[:, None]], -1)
        features = self.analysis(window)
        frames = torch.cat([self.past, features], -1)
        self.heard.copy_(window[..., CHUNK:])
        self.past.copy_(frames[..., 1:])
        mask = self.mask(F.relu(self.context(frames))).sigmoid()
        return {"sound": self.synthesis(features * mask)[..., 0], "mask": mask[..., 0]}


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
