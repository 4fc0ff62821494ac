"""Protects that a decoder's quantized weights are found in its GGUF file, row by row."""

import numpy as np
import pytest
import torch
from pte_foundry.models.decoder.load import load_decoder
from pte_foundry.models.sources import decoder_source
from pte_foundry.models.stored_weights import check_stored
from pte_foundry.quantize.weight_only import quantize

from tests.gguf_files import write_gguf

SIZE, VOCABULARY = 64, 40
FIELDS = {
    "embedding_length": SIZE,
    "feed_forward_length": SIZE,
    "block_count": 1,
    "context_length": SIZE,
    "attention.head_count": 4,
    "attention.head_count_kv": 4,
    "attention.layer_norm_rms_epsilon": 1e-5,
}
NAMES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
STEP = {"scheme": "stored", "types": ["torch.nn.Linear", "torch.nn.Embedding"], "names": ["*"]}


def write(path, kind, embedding="Q8_0"):
    """A model of one block whose linears are of a kind."""
    generator = np.random.default_rng(0)

    def values(rows):
        return generator.normal(0.1, 0.3, (rows, SIZE)).astype(np.float32)

    tensors = {"token_embd.weight": (values(VOCABULARY), embedding)}
    tensors |= {f"blk.0.{name}.weight": (values(SIZE), kind) for name in NAMES}
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        tensors[f"{name}.weight"] = np.ones(SIZE, np.float32), "F32"
    return write_gguf(path, "llama", tensors, FIELDS)


@pytest.mark.parametrize("splits", [{}, {"split": 24, "split_head": 24}], ids=["whole", "split"])
def test_weights_are_those_of_the_file(splits, tmp_path):
    """Also of linears in parts, and of the head that is the embedding."""
    source = write(tmp_path / "m.gguf", "Q4_1")
    model = load_decoder(source, "none", 8, **splits)
    stored = check_stored(decoder_source.stored_weights({}, source, **splits), model)
    kinds = {name.partition(".parts")[0]: weight.bits for name, weight in stored.items()}
    assert len(kinds) == len(NAMES) + 2
    assert {kinds["model.layers.0.mlp.up_proj"], kinds["lm_head"]} == {4, 8}
    tokens = torch.randint(VOCABULARY, (1, 8), generator=torch.manual_seed(0)).long()
    expected = model(tokens)
    found = quantize(model, [STEP | {"exclude": []}], stored=stored)(tokens)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_what_is_no_format_of_core_ml_is_left_out(tmp_path):
    stored = decoder_source.stored_weights({}, write(tmp_path / "m.gguf", "Q5_0"))
    assert set(stored) == {"model.embed_tokens", "lm_head"}
    assert decoder_source.stored_weights({}, write(tmp_path / "f.gguf", "F16", "F16")) == {}
    assert decoder_source.stored_weights({"snapshot": tmp_path / "m.gguf"}) == {}
