"""Small models like those of public bug reports and of first users; ``net`` chooses one.

Each was built wrong, refused without a reason, or passed with wrong numbers once. Reports are named
by tracker and number: ct is coremltools, et is executorch.
"""

import sys

import torch
import torch.nn.functional as F
from torch import nn


class RmsNorm(nn.Module):
    """Small values beside one large channel, and rows of zeros (ct#2821)."""

    def __init__(self):
        super().__init__()
        self.norm, self.out = nn.RMSNorm(64, eps=1e-5), nn.Linear(64, 8)

    def forward(self, x):
        return self.out(self.norm(x))

    @staticmethod
    def inputs(random):
        x = random(1, 6, 64) * 0.003
        x[..., 5], x[:, 2] = 0.2, 0.0
        return (x,)


class LargestMask(nn.Module):
    """Sums of the lowest fp32 value mask attention; some rows are masked altogether (ct#2669)."""

    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x, keep):
        lowest = torch.finfo(torch.float32).min
        causal = torch.full((x.shape[1], x.shape[1]), lowest).triu(1)
        mask = causal + (1 - keep.float())[:, None] * lowest
        scores = self.q(x) @ self.k(x).transpose(1, 2) + mask.clamp(min=lowest)
        return scores.softmax(-1) @ x

    @staticmethod
    def inputs(random):
        keep = torch.ones(1, 6, dtype=torch.int64)
        keep[:, :2] = 0
        return random(1, 6, 16), keep


class GroupedQuery(nn.Module):
    """Attention with fewer keys than queries, by ``enable_gqa`` (ct#2855)."""

    def __init__(self):
        super().__init__()
        self.q, self.kv = nn.Linear(32, 32), nn.Linear(32, 16)

    def forward(self, x):
        q = self.q(x).view(1, -1, 4, 8).transpose(1, 2)
        k, v = self.kv(x).view(1, -1, 2, 1, 8).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    @staticmethod
    def inputs(random):
        return (random(1, 5, 32),)


class CeilPool(nn.Module):
    """Windows that overhang the border: Core ML divides by the whole kernel (ct#2772)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x):
        x = self.conv(x) + 3
        return F.avg_pool2d(x, 2, 3, ceil_mode=True), F.avg_pool2d(x, 5, 3, 2)

    @staticmethod
    def inputs(random):
        return (random(1, 1, 10, 7),)


class Recurrent(nn.Module):
    """Nothing that ``int8_static`` can quantize (ct#2643)."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 6, batch_first=True)

    def forward(self, x, h, c):
        y, (h, c) = self.lstm(x, (h, c))
        return y, h, c

    @staticmethod
    def inputs(random):
        return random(1, 3, 8), random(1, 1, 6), random(1, 1, 6)


class Choice(nn.Module):
    """ct#2008."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda v: self.a(v), lambda v: self.b(v), (x,))


class Tied(nn.Module):
    """One weight for embedding and output, as in language models (et#21856)."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(64, 32), nn.Linear(32, 64, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, ids):
        return self.out(self.embed(ids))

    @staticmethod
    def inputs(random):
        return ((random(1, 4) * 20).long().clamp(0, 63),)


class Handed(nn.Module):
    """Outputs that are inputs, constants, scalars, and one tensor twice (ct#2184, ct#1450)."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.register_buffer("grid", torch.arange(6.0).view(2, 3))

    def forward(self, x, ids):
        y = self.linear(x)
        return y, x, y, self.grid, ids, y.sum()

    @staticmethod
    def inputs(random):
        return random(1, 8), torch.tensor([[3, 1]])


class Twins(nn.Module):
    """Outputs that become one value once no-ops are gone (ct#1887)."""

    def __init__(self):
        super().__init__()
        self.linear, self.drop = nn.Linear(8, 8), nn.Dropout(0.1)

    def forward(self, x):
        y = self.linear(x).relu()
        return y, self.drop(y), y * 1, y + 0, y.reshape(1, 8)


class Indices(nn.Module):
    """Places of maxima, which Core ML's max_pool does not give (ct#2456)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x):
        return F.max_pool2d(self.conv(x), 2, return_indices=True)

    @staticmethod
    def inputs(random):
        return (random(1, 1, 8, 8),)


class Binomial(nn.Module):
    """One channel times and plus a constant of many channels (ct#2020)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 1)
        k = torch.arange(8.0).view(1, 8, 1, 1)
        self.register_buffer("k", k)
        self.register_buffer("log_factorials", (k + 1).lgamma())

    def forward(self, x):
        return self.conv(x).sigmoid() * self.k + self.log_factorials

    @staticmethod
    def inputs(random):
        return (random(1, 2, 4, 4),)


class Transposed(nn.Module):
    """Groups, output padding, dilation (ct#1905, et#11688)."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv1d(8, 4, 5, stride=3, dilation=2, groups=2)
        self.b = nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)

    def forward(self, x):
        return self.b(F.gelu(self.a(x)))

    @staticmethod
    def inputs(random):
        return (random(2, 8, 30),)


class LargeIds(nn.Module):
    """Integers that int16 cannot hold, picked by position (ct#2222)."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(65000, 2)

    def forward(self, ids, position):
        last = ids.gather(1, position)
        return self.embed(last), last, ids.topk(2).values, ids.index_select(1, position[0])

    @staticmethod
    def inputs(random):
        ids = 30_000 + (random(1, 9).abs() * 9_000).long().clamp(max=34_999)
        return ids, torch.tensor([[7, 0, 3]])


class Peaks(nn.Module):
    """As many outputs as there are peaks; crashes in Core ML's delegate (et#17537)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x):
        return torch.nonzero(self.conv(x) > 0.2)

    @staticmethod
    def inputs(random):
        return (random(1, 1, 8, 8),)


class Cache(nn.Module):
    """Written at a position that is read with ``item()`` (et#9213)."""

    def __init__(self):
        super().__init__()
        self.key = nn.Linear(8, 8)
        self.register_buffer("cache", torch.zeros(1, 4, 8))

    def forward(self, x, position):
        p = position.item()
        torch._check(p >= 0)
        torch._check(p < 4)
        self.cache.narrow(1, p, 1).copy_(self.key(x)[:, None])
        return self.cache.sum(1)

    @staticmethod
    def inputs(random):
        return random(1, 8), torch.tensor([2])


class InPlace(nn.Module):
    """Normalizes its input in place."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x):
        return self.linear(x.sub_(0.5).div_(0.25))


class PaddingMask(nn.Module):
    """torch's encoder with a mask of booleans."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, x, padding):
        return self.encoder(x, src_key_padding_mask=padding)

    @staticmethod
    def inputs(random):
        return random(1, 6, 16), torch.arange(6)[None] > 3


class Detector(nn.Module):
    """Boxes in pixels beside scores of 0 to 1, through ``x % 1`` (ct#2836)."""

    def __init__(self):
        super().__init__()
        self.box, self.score = nn.Linear(8, 4), nn.Linear(8, 3)

    def forward(self, x):
        return self.box(x).sigmoid() * 640, (self.score(x) * 4) % 1


class Ruined(nn.Module):
    """A large output that is always right, and a small one that 4 bits ruin."""

    def __init__(self):
        super().__init__()
        self.body, self.small = nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, x):
        return x * 100, self.small(self.body(x).relu())

    @staticmethod
    def inputs(random):
        return (random(1, 32),)


class Positions(nn.Module):
    """Adds and compares integers, as transformers does for attention masks."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x):
        rows, columns = torch.arange(x.shape[1]) + 0, torch.arange(x.shape[1]) + 1
        mask = (rows[None] + columns[:, None]) > 4
        return self.b(self.a(x * mask.float().mean(0)).relu())


class Untrained(nn.Module):
    """Activations that shrink to almost nothing: fp16 cannot hold them."""

    def __init__(self):
        super().__init__()
        layers = [nn.Linear(8, 8) for _ in range(3)]
        self.layers = nn.Sequential(*layers)
        with torch.no_grad():
            for layer in layers:
                layer.weight *= 1e-4
                layer.bias.zero_()

    def forward(self, x):
        return self.layers(x)


class Lookup(nn.Embedding):
    """A position table that indexes its weight, as Whisper's does."""

    def forward(self, ids):
        return self.weight[ids + 2]


class Positioned(nn.Module):
    def __init__(self):
        super().__init__()
        self.position, self.out = Lookup(32, 32), nn.Linear(32, 32)

    def forward(self, x):
        return self.out(x + self.position(torch.arange(x.shape[1])))

    @staticmethod
    def inputs(random):
        return (random(1, 6, 32),)


class Loud(nn.Module):
    """A regression that overflows fp16."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        with torch.no_grad():
            self.linear.weight.fill_(300.0)

    def forward(self, x):
        y = self.linear(x * 100)
        return y - y.mean(-1, keepdim=True)

    @staticmethod
    def inputs(random):
        return (random(1, 8).abs(),)


def network(net):
    torch.manual_seed(0)
    return getattr(sys.modules[__name__], net)()


def inputs(net, seed):
    generator = torch.Generator().manual_seed(seed)
    make = getattr(getattr(sys.modules[__name__], net), "inputs", lambda random: (random(1, 8),))
    return make(lambda *shape: torch.randn(*shape, generator=generator))


def train(net):
    return network(net).state_dict()


def build(weights, net):
    from safetensors.torch import load_file

    model = network(net)
    model.load_state_dict(load_file(weights))
    return model.eval()


def example_inputs(net):
    return inputs(net, 0)


def calibration(net):
    return [inputs(net, seed) for seed in range(1, 9)]


def evaluation(net):
    samples = [inputs(net, seed) for seed in range(20, 24)]
    return samples, torch.zeros(4) if net == "Loud" else None


def score(outputs, labels):
    errors = [
        (output[0] - label).abs().mean() for output, label in zip(outputs, labels, strict=True)
    ]
    return {"mae": torch.stack(errors).mean().item()}
