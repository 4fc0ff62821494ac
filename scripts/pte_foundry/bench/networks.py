"""The networks of the example models with random weights, for what does not depend on weights.

Each function returns the network, in eval mode, and the inputs of one call. Default sizes are the
real ones; tests take smaller ones.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

from pte_foundry.bench import CLONE

if TYPE_CHECKING:
    from torch import nn

    from pte_foundry.models.tensors import Sample


def digits_cnn() -> tuple[nn.Module, Sample]:
    """A small CNN for 8×8 images of digits."""
    module = _module("digits_cnn")
    return module.DigitsCnn().eval(), module.example_inputs()


def mobilenet_v2() -> tuple[nn.Module, Sample]:
    """torchvision's MobileNetV2."""
    module = _module("mobilenet_v2")
    return module.mobilenet_v2(weights=None).eval(), module.example_inputs()


def minilm(
    layers: int = 6, heads: int = 12, width: int = 384, tokens: int = 64
) -> tuple[nn.Module, Sample]:
    """The sentence encoder all-MiniLM-L6-v2."""
    module = _module("minilm")
    config = module.BertConfig(
        num_hidden_layers=layers,
        num_attention_heads=heads,
        hidden_size=width,
        intermediate_size=4 * width,
        attn_implementation="eager",
    )
    encoder = module.SentenceEncoder(module.BertModel(config), tokens)
    return encoder.eval(), module.example_inputs(tokens)


def smollm2(
    layers: int = 30, heads: int = 9, width: int = 576, tokens: int = 128, vocabulary: int = 49152
) -> tuple[nn.Module, Sample]:
    """The language model SmolLM2-135M."""
    from transformers import LlamaConfig, LlamaForCausalLM

    module = _module("smollm2")
    config = LlamaConfig(
        vocab_size=vocabulary,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 3,
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    network = module.NextTokens(LlamaForCausalLM(config), tokens)
    return network.eval(), module.example_inputs(tokens)


def with_random_weights(
    make: Callable[..., tuple[nn.Module, Sample]], **sizes: int
) -> tuple[nn.Module, Sample]:
    """Returns what ``make`` does, with the same weights each time."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make(**sizes)


def _module(name: str) -> ModuleType:
    from pte_foundry.models.module import ModelModule

    return ModelModule.load(CLONE / "config" / "models" / f"{name}.py", None, {}, {}).module
