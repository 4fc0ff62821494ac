"""What distinguishes one decoder from another, read from a Hugging Face config."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pte_foundry.errors import ModelError
from pte_foundry.models.decoder.rope import Frequencies, frequencies
from pte_foundry.upstream.torchvision_operators import make_importable


@dataclass(frozen=True)
class Family:
    """What the blocks of a family (``model_type``) are, where its config.json is silent.

    Attributes:
        bias: whether queries, keys and values have one; None: as `attention_bias` is.
        output_bias: of the attention's output; None: as `attention_bias` is.
        query_norm: whether queries and keys are normalized, each head by itself.
        gemma: RMSNorm by ``1 + weight``, a norm after attention and MLP as well as before, scaled
            embeddings, and a scale of the scores that is not that of the heads' size.
        always_slides: whether a window is that of every layer.
    """

    bias: bool | None = None
    output_bias: bool | None = None
    query_norm: bool = False
    gemma: bool = False
    always_slides: bool = False


FAMILIES = {
    "llama": Family(),  # Llama 2 and 3.x, SmolLM2, TinyLlama
    "mistral": Family(bias=False, output_bias=False, always_slides=True),
    "qwen2": Family(bias=True, output_bias=False),  # Qwen2 and Qwen2.5
    "qwen3": Family(query_norm=True),
    "gemma2": Family(gemma=True),
    "gemma3_text": Family(query_norm=True, gemma=True),
}
"""By ``model_type``. To add one: its entry here, its names in ``gguf``, a row of the test."""

ACTIVATIONS = ("silu", "gelu_pytorch_tanh")


@dataclass(frozen=True)
class DecoderConfig:
    """The shape and the arithmetic of a decoder; sizes are as in Hugging Face's configs.

    Attributes:
        family: ``model_type``.
        windows: for each layer how many tokens it attends to, its own among them; None: all.
        ropes: for each layer the frequencies of its positions.
        bias: of queries, keys and values; ``output_bias`` of the attention's output.
        norm_offset: added to the weights of norms when they are read.
        post_norms: whether attention and MLP are followed by a norm too.
        attention_softcap: scores are ``cap * tanh(score / cap)``; ``logit_softcap``: logits too.
        tied: whether the head is the embedding.
        max_positions: the longest context that the model was trained for.
    """

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    norm_epsilon: float
    windows: tuple[int | None, ...]
    ropes: tuple[Frequencies, ...]
    activation: str
    attention_scale: float
    max_positions: int
    tied: bool = False
    bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    query_norm: bool = False
    post_norms: bool = False
    norm_offset: float = 0.0
    embedding_scale: float = 1.0
    attention_softcap: float | None = None
    logit_softcap: float | None = None

    @property
    def layers(self) -> int:
        """The number of blocks."""
        return len(self.windows)

    @cached_property
    def distinct_ropes(self) -> list[Frequencies]:
        """The different ones of ``ropes``, in a fixed order."""
        return sorted(set(self.ropes))


def read_config(folder: Path) -> DecoderConfig:
    """Reads the config.json of a snapshot, with transformers' defaults for what it leaves out.

    Raises:
        ModelError: it cannot be read, or the model is not of a supported kind.
    """
    try:
        found = library().AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (ValueError, OSError, KeyError) as error:
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"cannot read the snapshot's config.json: {text}") from error
    return decoder_config(found)


def library() -> Any:
    """Returns transformers, which imports torchvision."""
    make_importable()
    import transformers

    return transformers


def decoder_config(config: Any) -> DecoderConfig:
    """Returns what a ``PretrainedConfig`` of transformers describes.

    Raises:
        ModelError: the model is not of a supported kind; the message names what is not.
    """
    whole, config = config, config.get_text_config(decoder=True)
    kind = config.model_type
    family = FAMILIES.get(kind)
    if family is None:
        raise ModelError(
            f"is of model_type {kind!r}, which is no supported decoder; allowed: "
            f"{', '.join(FAMILIES)}; use `hf:` for other architectures, without a cache"
        )
    for refused, allowed in (
        ("quantization_config", "weights in floating point"),
        ("use_bidirectional_attention", "causal attention"),
    ):
        if getattr(whole, refused, None) or getattr(config, refused, None):
            raise ModelError(f"has {refused}, which is not supported; allowed: {allowed}")
    activation = getattr(config, "hidden_activation", None) or config.hidden_act
    if activation not in ACTIVATIONS:
        raise ModelError(
            f"has the activation {activation!r}, which is not supported; allowed: "
            f"{', '.join(ACTIVATIONS)}"
        )
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kv_heads = config.num_key_value_heads or config.num_attention_heads
    bias = bool(getattr(config, "attention_bias", False))
    scale = config.query_pre_attn_scalar if family.gemma else head_dim
    types = _layer_types(config, family)
    return DecoderConfig(
        family=kind,
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        heads=config.num_attention_heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        norm_epsilon=config.rms_norm_eps,
        windows=tuple(config.sliding_window if t == _SLIDING else None for t in types),
        ropes=_ropes(config.rope_parameters, types, head_dim),
        activation=activation,
        attention_scale=scale**-0.5,
        max_positions=config.max_position_embeddings,
        tied=bool(config.tie_word_embeddings),
        bias=bias if family.bias is None else family.bias,
        output_bias=bias if family.output_bias is None else family.output_bias,
        mlp_bias=bool(getattr(config, "mlp_bias", False)),
        query_norm=family.query_norm,
        post_norms=family.gemma,
        norm_offset=1.0 if family.gemma else 0.0,
        embedding_scale=config.hidden_size**0.5 if family.gemma else 1.0,
        attention_softcap=getattr(config, "attn_logit_softcapping", None) or None,
        logit_softcap=getattr(config, "final_logit_softcapping", None) or None,
    )


_SLIDING, _FULL = "sliding_attention", "full_attention"


def _layer_types(config: Any, family: Family) -> list[str]:
    """For each layer whether it attends to a window or to everything."""
    types = getattr(config, "layer_types", None)
    if types is None:
        slides = family.always_slides and config.sliding_window
        types = [_SLIDING if slides else _FULL] * config.num_hidden_layers
    if others := sorted(set(types) - {_SLIDING, _FULL}):
        raise ModelError(
            f"has layers of type {', '.join(others)}, which are not supported; allowed: "
            f"{_FULL}, {_SLIDING}"
        )
    return list(types)


def _ropes(parameters: Any, types: list[str], head_dim: int) -> tuple[Frequencies, ...]:
    """For each layer its frequencies; a config has them once, or for each type of layer."""
    nested = isinstance(parameters.get(types[0]), dict)
    found = {t: frequencies(parameters[t] if nested else parameters, head_dim) for t in set(types)}
    return tuple(found[t] for t in types)
