"""The network of a decoder: embedding, blocks, norm and head.

Modules and parameters have the names that they have in transformers, so that weights load as they
are and a recipe's patterns (``*lm_head``, ``*.mlp.*``) fit.

A program for Core ML differs from transformers' where fp16 or the converter demand it: positions
are looked up in tables (``rope``), a masked score gets a finite number, and grouped queries are a
dimension of their own. Norms are ``rms_norm``, which the lowering writes so that no square leaves
fp16 (``lowering.rewrites.normalization``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pte_foundry.models.decoder.config import DecoderConfig
from pte_foundry.models.decoder.rope import rotated, rotation, table

MASKED = -10_000.0
"""Added to the scores of tokens that are not attended to. Its exponential is zero, and unlike -inf
or fp32's lowest number it stays finite in fp16, also where another score is added to it."""

MAX_SPLITS = 8
"""Most parts of a linear that is split, as in ExecuTorch's exporter (``--max_splits``)."""


Keep = Callable[["Attention", Tensor, Tensor], tuple[Tensor, Tensor]]
"""Takes a block's attention and the new keys and values, [1, kv_heads, T, head_dim]; returns those
of all tokens that can be attended to."""


@dataclass(frozen=True)
class Call:
    """What all blocks of one call share.

    Attributes:
        rotations: cosines and sines of the tokens' positions, for each of the model's ropes.
        masks: added to the scores, [T, attended tokens], for each of the model's windows.
        keep: writes the cache.
    """

    rotations: list[tuple[Tensor, Tensor]]
    masks: dict[int | None, Tensor]
    keep: Keep


class Attention(nn.Module):
    """Grouped-query attention over what the cache holds."""

    def __init__(self, config: DecoderConfig, layer: int, split: int | None) -> None:
        super().__init__()
        self.layer, self.window = layer, config.windows[layer]
        self.rope = config.distinct_ropes.index(config.ropes[layer])
        self.groups, self.head_dim = config.kv_heads, config.head_dim
        self.scale, self.softcap = config.attention_scale, config.attention_softcap
        size, queries = config.hidden_size, config.heads * config.head_dim
        self.q_proj = linear(size, queries, config.bias, split)
        self.k_proj = linear(size, config.kv_heads * config.head_dim, config.bias, split)
        self.v_proj = linear(size, config.kv_heads * config.head_dim, config.bias, split)
        self.o_proj = linear(queries, size, config.output_bias, split)
        self.q_norm = self.k_norm = None
        if config.query_norm:
            self.q_norm = nn.RMSNorm(config.head_dim, config.norm_epsilon)
            self.k_norm = nn.RMSNorm(config.head_dim, config.norm_epsilon)

    def forward(self, hidden: Tensor, call: Call) -> Tensor:
        """Takes and returns [1, T, hidden_size]."""
        rotation = call.rotations[self.rope]
        queries = rotated(self._heads(self.q_proj(hidden), self.q_norm), *rotation) * self.scale
        keys = rotated(self._heads(self.k_proj(hidden), self.k_norm), *rotation)
        keys, values = call.keep(self, keys, self._heads(self.v_proj(hidden), None))
        # The queries of a group are a dimension of their own: [1, groups, queries, T, head_dim].
        # Folded into T, they make torch.export fix a length that is to vary.
        grouped = queries.unflatten(1, (self.groups, -1))
        scores = grouped @ keys.unsqueeze(2).transpose(-1, -2)
        if self.softcap:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        shares = torch.softmax(scores + call.masks[self.window], -1)
        mixed = (shares @ values.unsqueeze(2)).flatten(1, 2)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def _heads(self, projected: Tensor, norm: nn.Module | None) -> Tensor:
        heads = projected.unflatten(-1, (-1, self.head_dim))
        return (heads if norm is None else norm(heads)).transpose(1, 2)


class Mlp(nn.Module):
    """The gated feed-forward network."""

    def __init__(self, config: DecoderConfig, split: int | None) -> None:
        super().__init__()
        self.activation = config.activation
        size, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = linear(size, inner, config.mlp_bias, split)
        self.up_proj = linear(size, inner, config.mlp_bias, split)
        self.down_proj = linear(inner, size, config.mlp_bias, split)

    def forward(self, hidden: Tensor) -> Tensor:
        """Takes and returns [1, T, hidden_size]."""
        gate = self.gate_proj(hidden)
        gate = F.silu(gate) if self.activation == "silu" else F.gelu(gate, approximate="tanh")
        return self.down_proj(gate * self.up_proj(hidden))


class Block(nn.Module):
    """Attention and MLP, each with its norms around it and added to what it is given."""

    def __init__(self, config: DecoderConfig, layer: int, split: int | None) -> None:
        super().__init__()

        def norm() -> nn.Module:
            return nn.RMSNorm(config.hidden_size, config.norm_epsilon)

        self.self_attn = Attention(config, layer, split)
        self.mlp = Mlp(config, split)
        self.input_layernorm = norm()
        self.post_attention_layernorm = norm()
        self.pre_feedforward_layernorm = self.post_feedforward_layernorm = None
        if config.post_norms:
            self.pre_feedforward_layernorm = norm()
            self.post_feedforward_layernorm = norm()

    def forward(self, hidden: Tensor, call: Call) -> Tensor:
        """Takes and returns [1, T, hidden_size]."""
        attended = self.self_attn(self.input_layernorm(hidden), call)
        if self.pre_feedforward_layernorm is None:
            hidden = hidden + attended
            return hidden + self.mlp(self.post_attention_layernorm(hidden))
        hidden = hidden + self.post_attention_layernorm(attended)
        fed = self.mlp(self.pre_feedforward_layernorm(hidden))
        return hidden + self.post_feedforward_layernorm(fed)


class Trunk(nn.Module):
    """Embedding, blocks and the last norm."""

    def __init__(self, config: DecoderConfig, split: int | None) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, n, split) for n in range(config.layers))
        self.norm = nn.RMSNorm(config.hidden_size, config.norm_epsilon)


class Decoder(nn.Module):
    """A decoder without its cache; ``caches`` has subclasses, one for each style.

    Parameters are on the meta device until weights are loaded (``weights``), so that they are never
    in memory twice.

    Args:
        config: of the model.
        context_length: tokens that a call can attend to.
        split: most outputs of a linear in the blocks; larger ones are split.
        split_head: most outputs of the head, likewise. A split head shares no bytes with the
            embedding, so a tied one is then stored twice.
    """

    padding = 1
    """Rows of the tables behind the last position, for tokens that are none."""

    def __init__(
        self,
        config: DecoderConfig,
        context_length: int,
        split: int | None = None,
        split_head: int | None = None,
    ) -> None:
        super().__init__()
        self.config, self.context_length = config, context_length
        with torch.device("meta"):
            self.model = Trunk(config, split)
            self.lm_head = linear(config.hidden_size, config.vocab_size, False, split_head)
        self.windows = sorted(set(config.windows), key=str)
        for number, rope in enumerate(config.distinct_ropes):
            self.register_buffer(f"rope_{number}", table(rope, context_length + self.padding))

    @property
    def attentions(self) -> list[Attention]:
        """The attention of each block."""
        return [block.self_attn for block in self.model.layers]

    def rotations(self, rows: Tensor | slice) -> list[tuple[Tensor, Tensor]]:
        """Looks positions up in the tables."""
        tables = (
            getattr(self, f"rope_{number}") for number in range(len(self.config.distinct_ropes))
        )
        return [
            rotation(held[rows] if isinstance(rows, slice) else F.embedding(rows, held))
            for held in tables
        ]

    def logits(self, tokens: Tensor, call: Call) -> Tensor:
        """Returns [1, T, vocab_size] for tokens [1, T]."""
        hidden = self.model.embed_tokens(tokens)
        if self.config.embedding_scale != 1:
            hidden = hidden * self.config.embedding_scale
        for block in self.model.layers:
            hidden = block(hidden, call)
        logits = self.lm_head(self.model.norm(hidden))
        cap = self.config.logit_softcap
        return torch.tanh(logits / cap) * cap if cap else logits


def mask(queries: Tensor, keys: Tensor, window: int | None) -> Tensor:
    """Returns what is added to scores, fp32 [queries, keys]; both are given by their positions."""
    excluded = keys[None] > queries[:, None]
    if window is not None:
        excluded = excluded | (keys[None] <= queries[:, None] - window)
    return excluded.to(torch.float32) * MASKED


class SplitLinear(nn.Module):
    """A linear whose outputs are computed in parts, for devices that limit a weight's size."""

    def __init__(self, inputs: int, outputs: int, bias: bool, split: int) -> None:
        super().__init__()
        parts = min(-(-outputs // split), MAX_SPLITS)
        self.sizes = [outputs // parts + (n < outputs % parts) for n in range(parts)]
        self.parts = nn.ModuleList(nn.Linear(inputs, size, bias) for size in self.sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Returns what one linear would."""
        return torch.cat([part(x) for part in self.parts], -1)


def linear(inputs: int, outputs: int, bias: bool, split: int | None) -> nn.Module:
    """Returns a linear, in parts if it has more outputs than ``split``."""
    if split is None or outputs <= split:
        return nn.Linear(inputs, outputs, bias)
    return SplitLinear(inputs, outputs, bias, split)
