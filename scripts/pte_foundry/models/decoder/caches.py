"""Where a decoder keeps the keys and values of earlier tokens.

``states``  in buffers, which become Core ML states (iOS18 and newer). One method:
            ``forward(tokens, positions)``
``inputs``  with the caller, who passes them and writes the new ones (iOS16 and newer). Methods of
            several lengths share weights: ``forward(tokens, positions, keys, values)``
``none``    nowhere: every call of ``forward(tokens)`` computes all tokens again

``tokens`` are int64 [1, T], ``positions`` int64 [T]. A token at position ``context_length`` is
padding: nothing is written for it, and nobody attends to it (a call that always has one token needs
none). ExecuTorch's runners give int64; Core ML's own inputs are int32, and the delegate converts.

All styles are right without a reset of the cache: what lies behind a token's position is masked, so
a new text overwrites an old one.

A window (Mistral, Gemma) is a mask over the whole context, not a smaller cache.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pte_foundry.errors import ModelError
from pte_foundry.models.decoder.config import DecoderConfig
from pte_foundry.models.decoder.network import Attention, Call, Decoder, Keep, mask


class StatesDecoder(Decoder):
    """Keeps keys and values in buffers of each block: ``model.layers.0.self_attn.keys``."""

    def __init__(self, config: DecoderConfig, context_length: int, **splits: int | None) -> None:
        super().__init__(config, context_length, **splits)
        shape = (1, config.kv_heads, context_length, config.head_dim)
        for attention in self.attentions:
            attention.register_buffer("keys", torch.zeros(shape))
            attention.register_buffer("values", torch.zeros(shape))

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Returns logits [1, T, vocab_size]."""
        slots = torch.arange(self.context_length, dtype=positions.dtype)
        length = tokens.shape[1]
        one = isinstance(length, int) and length == 1  # a symbol would be made 1 by a comparison
        keep = _written_at(positions) if one else _written_where(slots, positions)
        masks = {window: mask(positions, slots, window) for window in self.windows}
        return self.logits(tokens, Call(self.rotations(positions), masks, keep))


def _written_at(positions: Tensor) -> Keep:
    """Writes the keys and values of one token: a slice_update in Core ML."""

    def keep(attention: Attention, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        attention.keys[:, :, positions] = keys
        attention.values[:, :, positions] = values
        return attention.keys, attention.values

    return keep


def _written_where(slots: Tensor, positions: Tensor) -> Keep:
    """Writes those of several tokens: a matmul and a select in Core ML.

    A row for each slot tells which token it gets, and all blocks share them. `.item()` of a
    position, for a slice, would give each block symbols of its own, and minutes of export; a
    scatter does not run on the Neural Engine.
    """
    chosen = slots[:, None] == positions[None]
    new, held = chosen.to(torch.float32), ~chosen.any(-1, keepdim=True)

    def keep(attention: Attention, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        for buffer, fresh in ((attention.keys, keys), (attention.values, values)):
            buffer.copy_(torch.where(held, buffer, new @ fresh))
        return attention.keys, attention.values

    return keep


class InputsDecoder(Decoder):
    """Takes the caches of all blocks, fp32 [layers, kv_heads, context_length, head_dim].

    Returns logits [1, T, vocab_size] and the keys and values of the new tokens, [layers, kv_heads,
    T, head_dim], which the caller writes into its caches at their positions.
    """

    def forward(
        self, tokens: Tensor, positions: Tensor, keys: Tensor, values: Tensor
    ) -> dict[str, Tensor]:
        """Returns ``logits``, ``new_keys`` and ``new_values``."""
        # What the caches hold from the first new position on is of an earlier text, so its
        # positions count as behind all others.
        slots = torch.arange(self.context_length, dtype=positions.dtype)
        behind = (slots >= positions[:1]).to(positions.dtype) * (2 * self.context_length)
        held = torch.cat((slots + behind, positions))
        fresh: tuple[list[Tensor], list[Tensor]] = ([], [])

        def keep(attention: Attention, *new: Tensor) -> tuple[Tensor, Tensor]:
            number = attention.layer
            for kept, tensor in zip(fresh, new, strict=True):
                kept.append(tensor)
            return tuple(
                torch.cat((cache[number : number + 1], tensor), 2)
                for cache, tensor in zip((keys, values), new, strict=True)
            )

        masks = {window: mask(positions, held, window) for window in self.windows}
        logits = self.logits(tokens, Call(self.rotations(positions), masks, keep))
        new_keys, new_values = (torch.cat(tensors) for tensors in fresh)
        return {"logits": logits, "new_keys": new_keys, "new_values": new_values}


class PlainDecoder(Decoder):
    """Keeps nothing; ``context_length`` is the most tokens of a call."""

    padding = 0

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns logits [1, T, vocab_size]."""
        length = tokens.shape[1]
        slots = torch.arange(length)
        masks = {window: mask(slots, slots, window) for window in self.windows}
        rotations = self.rotations(slice(0, length))
        return self.logits(tokens, Call(rotations, masks, lambda _block, *new: new))


CACHES = {"states": StatesDecoder, "inputs": InputsDecoder, "none": PlainDecoder}


def empty_decoder(
    config: DecoderConfig, cache: str, context_length: int, **splits: int | None
) -> Decoder:
    """Returns a decoder without weights (``weights.load_weights``).

    Raises:
        ModelError: there is no such style of cache, or the context is too long or short.
    """
    if cache not in CACHES:
        raise ModelError(f"has the option cache: {cache}; allowed: {', '.join(CACHES)}")
    if not 2 <= context_length <= config.max_positions:
        raise ModelError(
            f"has the option context_length: {context_length}; allowed: 2 to "
            f"{config.max_positions}, the context that the model was trained for"
        )
    return CACHES[cache](config, context_length, **splits)
