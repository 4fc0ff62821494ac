"""Compares decoders with ExecuTorch's own exporter of language models for Core ML.

The same weights, quantized alike, say the same and take no more room.
"""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from executorch.examples.models.llama.model_args import ModelArgs
from executorch.examples.models.llama.static_attention import StaticAttentionIOManager
from pte_foundry.formats.canonical_pte import canonical_pte
from pte_foundry.lowering import edge_program
from pte_foundry.lowering.coreml import lower
from pte_foundry.models.decoder.artifact import interface_of
from pte_foundry.models.decoder.generate import Session, generate
from pte_foundry.models.decoder.load import load_decoder
from pte_foundry.pte import Pte
from pte_foundry.quantize import weight_only
from torch.utils import _pytree as pytree

from tests.unit.lowering.test_lowering import TARGET

pytestmark = pytest.mark.upgrade

EXPORTER = "executorch.examples.apple.coreml.llama"
LAYERS, HEADS, KV_HEADS, WIDTH, CONTEXT = 3, 4, 2, 256, 64
PARAMS = {
    "dim": WIDTH,
    "n_layers": LAYERS,
    "n_heads": HEADS,
    "n_kv_heads": KV_HEADS,
    "vocab_size": 1024,
    "hidden_dim": 512,
    "norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "max_seq_len": CONTEXT,
}
OURS = (
    ("attention.wq", "self_attn.q_proj"),
    ("attention.wk", "self_attn.k_proj"),
    ("attention.wv", "self_attn.v_proj"),
    ("attention.wo", "self_attn.o_proj"),
    ("feed_forward.w1", "mlp.gate_proj"),
    ("feed_forward.w2", "mlp.down_proj"),
    ("feed_forward.w3", "mlp.up_proj"),
    ("attention_norm", "input_layernorm"),
    ("ffn_norm", "post_attention_layernorm"),
)
"""Meta's names of what is in a block, and transformers'."""
COUNT = 16
PROMPTS = ([5, 77, 300, 2], [901], [12, 12, 640, 31, 8, 1023, 99])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One model as a snapshot, as a checkpoint of Meta's, and as upstream's artifact."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("anchor")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=PARAMS["vocab_size"],
        hidden_size=WIDTH,
        intermediate_size=PARAMS["hidden_dim"],
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=2 * CONTEXT,
        tie_word_embeddings=False,
        rms_norm_eps=PARAMS["norm_eps"],
    )
    model = LlamaForCausalLM(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.12)
    model.save_pretrained(folder / "snapshot")
    torch.save(metas(model.state_dict()), folder / "m.pth")
    (folder / "params.json").write_text(json.dumps(PARAMS))
    script = Path(find_spec(EXPORTER).submodule_search_locations[0]) / "export_static_llm_coreml.py"
    files = ["--checkpoint", "m.pth", "--params", "params.json", "--output", "theirs.pte"]
    options = ["--max_context_len", str(CONTEXT), "--input_len", "1", "--no_graph_breaks"]
    command = [sys.executable, str(script), *files, *options, "--dtype", "fp32"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def metas(state):
    """The checkpoint as Meta names it: neighbours rotate, where transformers rotates halves."""

    def neighbours(rows, heads):
        return rows.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(rows.shape).contiguous()

    found = {
        "tok_embeddings.weight": state["model.embed_tokens.weight"],
        "norm.weight": state["model.norm.weight"],
        "output.weight": state["lm_head.weight"],
    }
    for layer in range(LAYERS):
        for theirs, ours in OURS:
            weight = state[f"model.layers.{layer}.{ours}.weight"]
            heads = {"attention.wq": HEADS, "attention.wk": KV_HEADS}.get(theirs)
            found[f"layers.{layer}.{theirs}.weight"] = (
                neighbours(weight, heads) if heads else weight
            )
    return {name: weight.clone() for name, weight in found.items()}


def build(folder):
    """Our artifact, quantized as the exporter does by default."""
    model = load_decoder(folder / "snapshot", "inputs", CONTEXT)
    step = {"scheme": "affine", "names": ["*"], "exclude": [], "granularity": {"axis": 0}}
    embedding = step | {"types": ["torch.nn.Embedding"], "weight_dtype": "int8"}
    linear = step | {"types": ["torch.nn.Linear"], "weight_dtype": "int4"}
    weight_only.quantize(model, [embedding, linear])
    caches = [torch.zeros(LAYERS, KV_HEADS, CONTEXT, WIDTH // HEADS) for _ in range(2)]
    tokens, positions = torch.zeros(1, 1).long(), torch.zeros(1).long()
    program = torch.export.export(model, (tokens, positions, *caches))
    target = TARGET | {"compute_precision": "float32"}
    return canonical_pte(lower(edge_program.make(program, []), target), "all")


def theirs(folder, prompt):
    """What upstream's artifact says, called by upstream's own keeper of the caches."""
    arguments = ModelArgs(max_context_len=CONTEXT, generate_full_logits=True, **PARAMS)
    arguments.attention_type = "static_mha"
    arguments.attention_kwargs = {"decompose_sdpa_in_mha": True}
    pte = Pte.load(folder / "theirs.pte")
    keeper = StaticAttentionIOManager(
        arguments,
        input_len=1,
        cache_lens=CONTEXT - 1,
        batch_size=1,
        dtype=torch.float32,
        style="smart_mask",
        mask_val=float("-inf"),
    )

    def model(tokens, options):
        logits, *caches = pte.run(pytree.tree_flatten((tokens, options))[0])
        keys, values = caches[:LAYERS], caches[LAYERS:]
        named = (
            dict(zip(held, new, strict=True))
            for held, new in ((keeper.k_caches, keys), (keeper.v_caches, values))
        )
        return logits, {"out_cache_state": tuple(named)}

    first = int(keeper.prefill(model, list(prompt))[0, -1].argmax())
    return list(keeper.decode(model, first, COUNT))[:COUNT]  # `first` included


def test_it_says_the_same_in_no_more_bytes(folder):
    made = build(folder)
    pte = Pte.load(made)
    for prompt in PROMPTS:
        session = Session(lambda method, *given: pte.run(given, method), interface_of(pte))
        assert list(generate(session, prompt, COUNT)) == theirs(folder, prompt)
    assert len(made) <= (folder / "theirs.pte").stat().st_size
    assert build(folder) == made
