"""Protects `as_stored`: the integers of a GGUF file reach Core ML without another rounding."""

import gguf
import numpy as np
import pytest
import torch
from pte_foundry.errors import ModelError
from pte_foundry.formats.inspect_pte import describe
from pte_foundry.lowering import edge_program
from pte_foundry.lowering.coreml import lower
from pte_foundry.models.decoder.gguf import open_gguf
from pte_foundry.models.decoder.gguf_blocks import KINDS, stored_weights
from pte_foundry.models.decoder.load import config_of, load_decoder
from pte_foundry.models.sources import decoder_source
from pte_foundry.models.stored import Stored
from pte_foundry.pte import Pte
from pte_foundry.quantize.schemes.as_stored import replaced
from torch import nn

from tests.unit.lowering.test_lowering import TARGET

SIZE, VOCABULARY = 32, 40
NAMES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def write(path, kind, embedding="Q8_0"):
    """A model of one block whose linears are of a kind; two groups of a row, one block constant."""
    generator = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_embedding_length(2 * SIZE)
    writer.add_feed_forward_length(2 * SIZE)
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)

    def add(name, rows, kind):
        values = generator.normal(0.1, 0.3, (rows, 2 * SIZE)).astype(np.float32)
        values[0, :SIZE] = 0.25
        made = getattr(gguf.GGMLQuantizationType, kind)
        writer.add_tensor(name, gguf.quants.quantize(values, made), raw_dtype=made)

    add("token_embd.weight", VOCABULARY, embedding)
    for name in NAMES:
        add(f"blk.0.{name}.weight", 2 * SIZE, kind)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(2 * SIZE, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_are_those_of_the_file(tmp_path, kind):
    write(tmp_path / "m.gguf", kind)
    held = decoder_source.stored({}, tmp_path / "m.gguf")
    assert len(held) == len(NAMES) + 2
    assert {held["model.layers.0.mlp.up_proj"].bits, held["lm_head"].bits} == {KINDS[kind][0], 8}
    model = load_decoder(tmp_path / "m.gguf", "none", 8)
    for name, stored in held.items():
        assert stored.group == 32
        weight = model.get_submodule(name).weight
        torch.testing.assert_close(stored.values(), weight.data, atol=1e-6, rtol=1e-6)
    tokens = torch.randint(VOCABULARY, (1, 8)).int()
    with torch.no_grad():
        expected = model(tokens)
        found = replaced(model, held)(tokens)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1"])
def test_core_ml_gets_four_bits_and_computes_the_same(tmp_path, kind):
    """Together with an embedding of eight bits, in one artifact."""
    write(tmp_path / "m.gguf", kind)
    held = stored_weights(open_gguf(tmp_path / "m.gguf"), config_of(tmp_path / "m.gguf"))
    names = {"0": "model.embed_tokens", "1": "model.layers.0.mlp.up_proj"}
    net = nn.Sequential(nn.Embedding(VOCABULARY, 2 * SIZE), nn.Linear(2 * SIZE, 2 * SIZE, False))
    for name, child in net.named_children():
        child.weight.data = held[names[name]].values()
    tokens = torch.arange(VOCABULARY).int()[None]
    with torch.no_grad():
        expected = net(tokens)
        replaced(net, {name: held[other] for name, other in names.items()})
    program = torch.export.export(net.eval(), (tokens,))
    written = lower(edge_program.make(program, []), TARGET | {"compute_precision": "float32"})
    assert {"int4", "int8"} <= {t.lower() for t in describe(written).weight_bytes}
    torch.testing.assert_close(Pte.load(written).run((tokens,))[0], expected, atol=1e-4, rtol=0)


def test_what_cannot_be_taken_over_is_refused(tmp_path):
    write(tmp_path / "m.gguf", "Q5_0")
    with pytest.raises(ModelError, match=r"weights as Q5_0.*allowed: Q4_0, Q4_1, Q8_0"):
        decoder_source.stored({}, tmp_path / "m.gguf")
    write(tmp_path / "f.gguf", "F16", "F32")
    with pytest.raises(ModelError, match="no quantized weights"):
        decoder_source.stored({}, tmp_path / "f.gguf")
    with pytest.raises(ModelError, match="no weights in a GGUF file"):
        decoder_source.stored({"snapshot": tmp_path / "f.gguf"})
    net = nn.Sequential(nn.Linear(32, 2, bias=False))
    held = Stored(torch.ones(2, 32).to(torch.int8), torch.ones(2, 1), torch.zeros(2, 1), 4)
    with pytest.raises(ModelError, match="'0' that is not the one of its file"):
        replaced(net, {"0": held})
    with pytest.raises(ModelError, match=r"no weight 'a'.*without `split`"):
        replaced(net, {"a": held})
