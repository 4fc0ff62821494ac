"""Tags each word of a sentence by what comes before and after it: an LSTM in both directions.

Shows a recurrent network: each layer of ``nn.LSTM`` stays one operation of Core ML, a loop on the
device. Unrolled, this artifact would have 1.3 MB instead of 0.15 MB. Its length is fixed, because
torch.export traces an LSTM for one length: pad the sentences. Core ML runs ``lstm`` on the CPU or
GPU, and recipes compress the layers around it.

``nn.GRU`` and ``nn.RNN`` are unrolled; Core ML's ``gru`` differs from torch's.
"""

import torch
from torch import Tensor, nn

WORDS, WIDTH, HIDDEN, TAGS = 512, 32, 32, 8
LENGTH = 24


class Tagger(nn.Module):
    """Word ids, int32 [1, 24], to logits [1, 24, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.lstm = nn.LSTM(WIDTH, HIDDEN, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * HIDDEN, TAGS)

    def forward(self, words: Tensor) -> dict[str, Tensor]:
        hidden, _ = self.lstm(self.embed(words))
        return {"logits": self.head(hidden)}


def build() -> nn.Module:
    return Tagger().eval()


def example_inputs() -> tuple[Tensor, ...]:
    return (torch.zeros(1, LENGTH, dtype=torch.int32),)


def evaluation() -> tuple[list[tuple[Tensor, ...]], None]:
    random = torch.Generator().manual_seed(1)
    draw = [torch.randint(0, WORDS, (1, LENGTH), generator=random) for _ in range(4)]
    return [(words.to(torch.int32),) for words in draw], None


def calibration() -> list[tuple[Tensor, ...]]:
    return evaluation()[0]
