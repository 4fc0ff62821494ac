"""A decoder's config and parameters from a GGUF file, as llama.cpp's converter writes them.

The file's names are in gguf-py/gguf/constants.py (``TENSOR_NAMES``), its changes to the weights in
llama.cpp's convert_hf_to_gguf.py: rows of queries and keys of the architecture ``llama`` are in the
order in which neighbours rotate, Gemma's norms have their one added, Llama 3's scaling of positions
is a tensor of factors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pte_foundry.errors import ModelError
from pte_foundry.models.decoder.config import DecoderConfig, library
from pte_foundry.models.stored_weights import StoredWeight, from_gguf

if TYPE_CHECKING:
    from gguf import GGUFReader, ReaderTensor

ARCHITECTURES = {
    "llama": "llama",  # Llama, SmolLM2 and Mistral
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
}
"""``general.architecture`` and the family that it is."""

_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GEMMA_NAMES = _NAMES | {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_ROPE_FACTORS = "rope_freqs.weight"
# The layers of the Gemmas whose scores are scaled by hidden size per head (llama.cpp,
# src/llama-model.cpp, f_attention_scale), which the file does not hold.
_LARGEST_GEMMA = {"gemma2": 46, "gemma3": 62}


def open_gguf(path: Path) -> GGUFReader:
    """Opens a GGUF file, memory-mapped.

    Raises:
        ModelError: it is none.
    """
    from gguf import GGUFReader

    try:
        return GGUFReader(path)
    except (ValueError, OSError, IndexError) as error:
        raise ModelError(f"cannot read {path.name} as GGUF: {error}") from error


def field(reader: GGUFReader, name: str, default: Any = None) -> Any:
    """Returns the value of a field; ``default`` if there is none."""
    found = reader.fields.get(name)
    return default if found is None else found.contents()


def transformers_config(reader: GGUFReader) -> Any:
    """Returns the config that transformers has for the model of a file.

    Raises:
        ModelError: it is of an architecture, or a kind of positions, that is not supported.
    """
    name = field(reader, "general.architecture")
    if name not in ARCHITECTURES:
        raise ModelError(
            f"is a GGUF file of architecture {name!r}, which is not supported; allowed: "
            f"{', '.join(ARCHITECTURES)}"
        )

    def value(key: str, default: Any = None) -> Any:
        return field(reader, f"{name}.{key}", default)

    tensors = {tensor.name: tensor for tensor in reader.tensors}
    heads, size = value("attention.head_count"), value("embedding_length")
    given = {
        "vocab_size": int(tensors["token_embd.weight"].shape[1]),
        "hidden_size": size,
        "intermediate_size": value("feed_forward_length"),
        "num_hidden_layers": value("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": value("attention.head_count_kv", heads),
        "head_dim": value("attention.key_length", size // heads),
        "rms_norm_eps": value("attention.layer_norm_rms_epsilon"),
        "max_position_embeddings": value("context_length"),
        "tie_word_embeddings": "output.weight" not in tensors,
        "attention_bias": "blk.0.attn_q.bias" in tensors,
        "sliding_window": value("attention.sliding_window"),
    }
    if name.startswith("gemma"):
        largest = given["num_hidden_layers"] == _LARGEST_GEMMA[name]
        given["query_pre_attn_scalar"] = size // heads if largest else given["head_dim"]
        given["attn_logit_softcapping"] = value("attn_logit_softcapping")
        given["final_logit_softcapping"] = value("final_logit_softcapping")
    given["rope_parameters"] = _rope(reader, name)
    kept = {key: v for key, v in given.items() if v is not None or "softcapping" in key}
    return library().AutoConfig.for_model(ARCHITECTURES[name], **kept)


def _rope(reader: GGUFReader, name: str) -> dict[str, Any]:
    """The ``rope_parameters`` of a config."""
    theta = field(reader, f"{name}.rope.freq_base", 10_000.0)
    scaling = field(reader, f"{name}.rope.scaling.type", "none")
    full = {"rope_type": "default", "rope_theta": theta}
    if scaling == "linear":
        factor = field(reader, f"{name}.rope.scaling.factor")
        full |= {"rope_type": "linear", "factor": factor}
    elif scaling != "none":
        full["rope_type"] = scaling  # refused by name where the frequencies are computed
    if name != "gemma3":
        return full
    local = field(reader, f"{name}.rope.freq_base_swa", 10_000.0)
    return {
        "full_attention": full,
        "sliding_attention": {"rope_type": "default", "rope_theta": local},
    }


def with_factors(config: DecoderConfig, reader: GGUFReader) -> DecoderConfig:
    """Returns the config with Llama 3's scaling of positions, if the file has it."""
    factors = [t.data.tolist() for t in reader.tensors if t.name == _ROPE_FACTORS]
    if not factors:
        return config
    scaled = {
        rope: tuple((torch.tensor(rope) / torch.tensor(factors[0])).tolist())
        for rope in config.distinct_ropes
    }
    return replace(config, ropes=tuple(scaled[rope] for rope in config.ropes))


def names_of(
    reader: GGUFReader, config: DecoderConfig
) -> Iterator[tuple[ReaderTensor, str, int | None]]:
    """Yields the tensors with transformers' names, and the heads of rows to put in order."""
    names = _GEMMA_NAMES if config.post_norms else _NAMES
    permuted = field(reader, "general.architecture") == "llama"
    heads = {"attn_q": config.heads, "attn_k": config.kv_heads} if permuted else {}
    for tensor in reader.tensors:
        if tensor.name != _ROPE_FACTORS:
            *block, name, kind = tensor.name.split(".")  # blk.<number>.<name>.weight
            found = f"{names.get(name, name)}.{kind}"
            yield tensor, f"model.layers.{block[1]}.{found}" if block else found, heads.get(name)


def tensors_of(
    reader: GGUFReader, config: DecoderConfig
) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Yields the parameters by transformers' names; each is dequantized when it is read."""
    from gguf import dequantize

    def read(tensor: ReaderTensor, heads: int | None) -> Tensor:
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        return values if heads is None else in_halves(values, heads)

    for tensor, name, heads in names_of(reader, config):
        yield name, lambda t=tensor, h=heads: read(t, h)


def stored_of(reader: GGUFReader, config: DecoderConfig) -> dict[str, StoredWeight]:
    """Returns the quantized weights that Core ML can take as they are, by transformers' modules."""
    found = {}
    for tensor, name, heads in names_of(reader, config):
        if name.endswith(".weight") and (stored := from_gguf(tensor)):
            if heads is not None:
                stored = stored.rows(lambda rows, heads=heads: in_halves(rows, heads))
            found[name.removesuffix(".weight")] = stored
    if config.tied and "model.embed_tokens" in found:
        found["lm_head"] = found["model.embed_tokens"]
    return found


def in_halves(rows: Tensor, heads: int) -> Tensor:
    """Returns the rows of queries or keys in transformers' order.

    llama.cpp rotates neighbouring rows of a head, transformers its halves.
    """
    return rows.unflatten(0, (heads, -1, 2)).transpose(1, 2).reshape(rows.shape)
