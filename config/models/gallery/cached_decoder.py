"""A tiny language model whose cache of keys and values is an input and an output.

Shows methods of one ``forward()`` with different sizes: ``prefill`` reads a prompt, and ``decode``
one token, with weights that they share from iOS 18 on. It needs no states, as the app writes the
cache. (``decoder:`` in a config builds real language models like this one.)
"""

import torch
from torch import Tensor, nn

CACHE, PROMPT, STEPS = 16, 4, 5
WIDTH, HEADS, VOCABULARY = 32, 2, 64
MASKED = -1e4


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.attention, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(
        self, tokens: Tensor, mask: Tensor, keys: Tensor, values: Tensor
    ) -> dict[str, Tensor]:
        x, length = self.embed(tokens), tokens.shape[1]
        heads = self.attention(x).reshape(1, length, 3, HEADS, WIDTH // HEADS)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        scores = q @ torch.cat([keys, k], 2).transpose(-1, -2) * (WIDTH // HEADS) ** -0.5 + mask
        y = scores.softmax(-1) @ torch.cat([values, v], 2)
        x = x + self.out(y.transpose(1, 2).reshape(1, length, WIDTH))
        return {"logits": self.head(x), "keys": k, "values": v}


def build() -> nn.Module:
    return Decoder().eval()


def methods() -> dict[str, dict[str, Tensor]]:
    return {"prefill": _inputs(PROMPT), "decode": _inputs(1)}


def _inputs(length: int) -> dict[str, Tensor]:
    cache = torch.zeros(1, HEADS, CACHE, WIDTH // HEADS)
    return {
        "tokens": torch.zeros(1, length, dtype=torch.int32),
        "mask": torch.zeros(1, 1, length, CACHE + length),
        "keys": cache,
        "values": cache.clone(),
    }


def evaluation() -> tuple[list[dict[str, Tensor]], None]:
    random = torch.Generator().manual_seed(1)
    draw = torch.randint(0, VOCABULARY, (3, PROMPT + STEPS), generator=random, dtype=torch.int32)
    return [{"tokens": tokens} for tokens in draw.split(1)], None


def calibration() -> list[dict[str, Tensor]]:
    return evaluation()[0]


def play(run, sample: dict[str, Tensor]) -> dict[str, Tensor]:
    # The tokens are the sample's, not chosen by the logits: after the first other choice two
    # programs would read different texts.
    keys, values = _inputs(1)["keys"], _inputs(1)["values"]
    logits, used = [], 0
    for tokens in sample["tokens"].split([PROMPT] + [1] * STEPS, dim=1):
        length = tokens.shape[1]
        mask = torch.full((1, 1, length, CACHE + length), MASKED)
        mask[..., :used] = 0
        mask[..., CACHE:] = torch.full((length, length), MASKED).triu(1)
        method = "prefill" if length > 1 else "decode"
        found = run(method, tokens=tokens, mask=mask, keys=keys, values=values)
        keys[:, :, used : used + length] = found["keys"]
        values[:, :, used : used + length] = found["values"]
        used += length
        logits.append(found["logits"])
    return {"logits": torch.cat(logits, 1)}
