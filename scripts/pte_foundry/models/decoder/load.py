"""A decoder with its weights, from a snapshot or a GGUF file."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from gguf import GGUFReader


def config_of(source: Path) -> DecoderConfig:
    """Returns the config of a snapshot's folder or a GGUF file.

    Raises:
        ModelError: it is not of a supported decoder.
    """
    return _opened(source)[0]


def _opened(source: Path) -> tuple[DecoderConfig, GGUFReader | None]:
    """The config, and the GGUF file that it is of: to open one takes seconds."""
    if source.is_dir():
        return read_config(source), None
    reader = open_gguf(source)
    return with_factors(decoder_config(transformers_config(reader)), reader), reader


def load_decoder(
    source: Path,
    cache: str,
    context_length: int,
    *,
    random: bool = False,
    **splits: int | None,
) -> Decoder:
    """Returns the decoder of a snapshot's folder or a GGUF file, in eval mode.

    Args:
        source: the folder or file.
        cache: one of ``caches.CACHES``.
        context_length: tokens that the cache has room for.
        random: with random weights instead of its own.
        splits: ``split`` and ``split_head`` (``network.Decoder``).

    Raises:
        ModelError: the model is not supported, or its weights do not fit its config.
    """
    config, reader = _opened(source)
    decoder = empty_decoder(config, cache, context_length, **splits)
    if random:
        return random_weights(decoder)
    weights = safetensors_of(source, config) if reader is None else tensors_of(reader, config)
    return load_weights(decoder, weights)


def stored_weights(source: Path, **splits: int | None) -> dict[str, StoredWeight]:
    """Returns the quantized weights of a GGUF file by module; a snapshot has none.

    Args:
        source: the folder or file.
        splits: as :func:`load_decoder` was given.
    """
    config, reader = _opened(source)
    if reader is None:
        return {}
    found: dict[str, StoredWeight] = {}
    decoder = empty_decoder(config, "none", 2, **splits)
    for name, weight in stored_of(reader, config).items():
        module = decoder.get_submodule(name)
        if isinstance(module, SplitLinear):
            ends = [*accumulate(module.sizes)]
            for number, (size, end) in enumerate(zip(module.sizes, ends, strict=True)):
                part = slice(end - size, end)
                found[f"{name}.parts.{number}"] = weight.rows(lambda rows, part=part: rows[part])
        else:
            found[name] = weight
    return found
