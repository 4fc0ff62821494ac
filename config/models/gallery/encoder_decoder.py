"""A tiny model of the Whisper kind, which turns sound into tokens.

Shows ``methods()``: ``encode`` runs once for a recording and ``decode`` once for each token, and
one artifact has both. ``play()`` is the loop of an app, and what it returns is compared.
"""

import torch
from torch import Tensor, nn

BANDS, FRAMES, TOKENS = 8, 20, 4
WIDTH, HEADS, VOCABULARY = 32, 2, 48


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        q = self.q(x).reshape(1, x.shape[1], HEADS, -1).transpose(1, 2)
        k, v = (
            part.reshape(1, context.shape[1], HEADS, -1).transpose(1, 2)
            for part in self.kv(context).chunk(2, -1)
        )
        scores = q @ k.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5
        weights = (scores if mask is None else scores + mask).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).reshape(x.shape))


class Speech(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(BANDS, WIDTH, 3, stride=2, padding=1)
        self.listen, self.recall, self.attend = Attention(), Attention(), Attention()
        self.norm = nn.LayerNorm(WIDTH)
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.register_buffer("causal", torch.full((TOKENS, TOKENS), -1e4).triu(1))

    def encode(self, features: Tensor) -> Tensor:
        x = nn.functional.gelu(self.stem(features)).transpose(1, 2)
        return self.norm(x + self.listen(x, x))

    def decode(self, tokens: Tensor, audio: Tensor) -> Tensor:
        x = self.embed(tokens)
        x = x + self.recall(x, x, self.causal)
        x = self.norm(x + self.attend(x, audio))
        return x @ self.embed.weight.T


def build() -> nn.Module:
    return Speech().eval()


def methods() -> dict[str, tuple[Tensor, ...]]:
    tokens = torch.zeros(1, TOKENS, dtype=torch.int32)
    return {
        "encode": (torch.zeros(1, BANDS, FRAMES),),
        "decode": (tokens, torch.zeros(1, FRAMES // 2, WIDTH)),
    }


def output_names() -> dict[str, list[str]]:
    return {"encode": ["audio"], "decode": ["logits"]}


def evaluation() -> tuple[list[Tensor], None]:
    random = torch.Generator().manual_seed(1)
    return [torch.randn(1, BANDS, FRAMES, generator=random) for _ in range(3)], None


def play(run, sample: Tensor) -> Tensor:
    audio = run("encode", sample)["audio"]
    tokens = torch.zeros(1, TOKENS, dtype=torch.int32)
    for position in range(TOKENS):
        logits = run("decode", tokens, audio)["logits"]
        if position + 1 < TOKENS:
            tokens[:, position + 1] = logits[:, position].argmax(-1)
    return logits
