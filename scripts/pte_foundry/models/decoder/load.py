"""A decoder with its weights, from a snapshot or a GGUF file."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import torch

from pte_foundry.models.decoder.caches import empty_decoder
from pte_foundry.models.decoder.config import DecoderConfig, decoder_config, read_config
from pte_foundry.models.decoder.gguf import (
    open_gguf,
    stored_of,
    tensors_of,
    transformers_config,
    with_factors,
)
from pte_foundry.models.decoder.network import Decoder, SplitLinear
from pte_foundry.models.decoder.weights import load_weights, random_weights, safetensors_of
from pte_foundry.models.stored_weights import StoredWeight


def config_of(source: Path) -> DecoderConfig:
    """Returns the config of a snapshot's folder or a GGUF file.

    Raises:
        ModelError: it is not of a supported decoder.
    """
    if source.is_dir():
        return read_config(source)
    reader = open_gguf(source)
    return with_factors(decoder_config(transformers_config(reader)), reader)


def load_decoder(
    source: Path,
    cache: str,
    context_length: int,
    *,
    random: bool = False,
    dtype: torch.dtype = torch.float32,
    **splits: int | None,
) -> Decoder:
    """Returns the decoder of a snapshot's folder or a GGUF file, in eval mode.

    Args:
        source: the folder or file.
        cache: one of ``caches.CACHES``.
        context_length: tokens that the cache has room for.
        random: with random weights instead of its own.
        dtype: of the parameters in memory.
        splits: ``split`` and ``split_head`` (``network.Decoder``).

    Raises:
        ModelError: the model is not supported, or its weights do not fit its config.
    """
    config = config_of(source)
    decoder = empty_decoder(config, cache, context_length, **splits)
    if random:
        return random_weights(decoder, dtype)
    if source.is_dir():
        return load_weights(decoder, safetensors_of(source, config), dtype)
    return load_weights(decoder, tensors_of(open_gguf(source), config), dtype)


def stored_weights(source: Path, **splits: int | None) -> dict[str, StoredWeight]:
    """Returns the quantized weights of a GGUF file by module; a snapshot has none.

    Args:
        source: the folder or file.
        splits: as :func:`load_decoder` was given.
    """
    if source.is_dir():
        return {}
    config = config_of(source)
    found: dict[str, StoredWeight] = {}
    decoder = empty_decoder(config, "none", 2, **splits)
    for name, weight in stored_of(open_gguf(source), config).items():
        module = decoder.get_submodule(name)
        if isinstance(module, SplitLinear):
            ends = [*accumulate(module.sizes)]
            for number, (size, end) in enumerate(zip(module.sizes, ends, strict=True)):
                part = slice(end - size, end)
                found[f"{name}.parts.{number}"] = weight.rows(lambda rows, part=part: rows[part])
        else:
            found[name] = weight
    return found
