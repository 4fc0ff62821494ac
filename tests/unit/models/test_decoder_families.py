"""Protects the arithmetic of decoders: every family against transformers' own implementation."""

import numpy as np
import pytest
import torch
from pte_foundry.errors import ModelError
from pte_foundry.models.decoder.caches import CACHES, InputsDecoder, StatesDecoder
from pte_foundry.models.decoder.config import FAMILIES, decoder_config, library
from pte_foundry.models.decoder.gguf import _GEMMA_NAMES, _NAMES
from pte_foundry.models.decoder.load import config_of, load_decoder
from pte_foundry.models.decoder.weights import text_name

from tests.gguf_files import write_gguf

transformers = library()
CONTEXT, PROMPT, NEW = 24, 9, 6
SHAPE = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 100.0,  # so that short, middle and long waves are there in eight pairs
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR = {"rope_type": "linear", "factor": 8.0}
LINEAR_OLD = {"type": "linear", "factor": 2.0}
WINDOW = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 24, "sliding_window": 5}
# Name of the row: the model_type, and what its config has besides SHAPE.
MODELS = {
    "llama 2": ("llama", {"num_key_value_heads": 4}),
    "llama 3.2": ("llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": True}),
    "smollm2": ("llama", {"tie_word_embeddings": True, "rms_norm_eps": 1e-5}),
    "llama with biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, old names": ("llama", {"rope_theta": 77.0, "rope_scaling": LINEAR_OLD}),
    "mistral": ("mistral", {"sliding_window": 5, "head_dim": 16}),
    "mistral without window": ("mistral", {"sliding_window": None}),
    "qwen 2.5": ("qwen2", {"tie_word_embeddings": True}),
    "qwen 2.5, window": ("qwen2", WINDOW),
    "qwen 3": ("qwen3", {"head_dim": 16}),
    "gemma 2": ("gemma2", {**GEMMA, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    "gemma 3": ("gemma3_text", GEMMA | {"sliding_window_pattern": 2, "rope_scaling": LINEAR}),
}


def theirs(name):
    """A model of transformers in which every parameter matters: none is zero or one."""
    kind, more = MODELS[name]
    config = transformers.AutoConfig.for_model(kind, **SHAPE | more)
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for tensor in model.parameters():
        tensor.data.normal_(0.05, 0.3)
    return model


def prompt():
    return torch.randint(3, SHAPE["vocab_size"], (1, PROMPT), generator=torch.manual_seed(1))


@pytest.fixture(scope="module", params=MODELS)
def case(request, tmp_path_factory):
    """The folder of a snapshot, a text, transformers' logits for it, and where it becomes new."""
    model = theirs(request.param)
    folder = tmp_path_factory.mktemp("snapshot")
    model.save_pretrained(folder, max_shard_size="20KB")  # several files and an index
    with torch.no_grad():
        tokens = model.generate(
            prompt(), max_new_tokens=NEW, do_sample=False, eos_token_id=None, pad_token_id=0
        )
        return folder, tokens, model(tokens).logits


def step(model, tokens, positions, caches):
    """One call of a decoder; `caches` are those of the caller, for the style that has them."""
    if not isinstance(model, InputsDecoder):
        return model(tokens, positions)
    found = model(tokens, positions, *caches)
    real = positions < CONTEXT
    for cache, new in zip(caches, (found["new_keys"], found["new_values"]), strict=True):
        cache[:, :, positions[real]] = new[:, :, real]
    return found["logits"]


@pytest.mark.parametrize("cache", ["states", "inputs"])
def test_cached_tokens_are_those_of_transformers(case, cache):
    """A padded prompt and then token by token, after another text has filled the cache."""
    folder, tokens, expected = case
    model = load_decoder(folder, cache, CONTEXT)
    config = model.config
    shape = (config.layers, config.kv_heads, CONTEXT, config.head_dim)
    caches = [torch.randn(shape), torch.randn(shape)]
    rows = torch.arange(PROMPT + 3, dtype=torch.int64)
    padded = torch.cat((tokens[:, :PROMPT], torch.full((1, 3), 7)), 1).long()
    with torch.no_grad():
        if isinstance(model, StatesDecoder):
            other = torch.randint(0, SHAPE["vocab_size"], (1, CONTEXT)).long()
            model(other, torch.arange(CONTEXT, dtype=torch.int64))
        found = step(model, padded, rows.where(rows < PROMPT, CONTEXT), caches)[:, :PROMPT]
        chosen = [found[0, -1].argmax().item()]
        logits = [found]
        for position in range(PROMPT, PROMPT + NEW):
            now = torch.tensor([position], dtype=torch.int64)
            logits.append(step(model, torch.tensor([chosen[-1:]]).long(), now, caches))
            chosen.append(logits[-1][0, -1].argmax().item())
    assert chosen[:NEW] == tokens[0, PROMPT:].tolist()
    torch.testing.assert_close(torch.cat(logits, 1), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("splits", [{}, {"split": 13, "split_head": 40}], ids=["whole", "split"])
def test_logits_without_a_cache_are_those_of_transformers(case, splits):
    folder, tokens, expected = case
    with torch.no_grad():
        found = load_decoder(folder, "none", CONTEXT, **splits)(tokens.long())
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


# What llama.cpp's converter calls the kinds, and the fields beside SHAPE.
FILES = {
    "llama 3.2": ("llama", {}),
    "smollm2": ("llama", {}),
    "mistral without window": ("llama", {}),
    "qwen 2.5": ("qwen2", {}),
    "qwen 3": ("qwen3", {"attention.key_length": 16}),
    "gemma 2": (
        "gemma2",
        {
            "attention.key_length": 16,
            "attention.sliding_window": 5,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    "gemma 3": (
        "gemma3",
        {
            "attention.key_length": 16,
            "attention.sliding_window": 5,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 8.0,
        },
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_gguf_is_read_as_its_converter_writes_it(name, tmp_path, monkeypatch):
    architecture, more = FILES[name]
    if "gemma" in architecture:  # the file does not hold these, transformers' defaults are 256, 6
        monkeypatch.setitem(GEMMA, "query_pre_attn_scalar", 16)
        monkeypatch.setitem(MODELS[name][1], "query_pre_attn_scalar", 16)
        monkeypatch.setitem(MODELS[name][1], "sliding_window_pattern", 6)
    model = theirs(name)
    write_converted(tmp_path / "m.gguf", model, architecture, more)
    tokens = torch.randint(0, SHAPE["vocab_size"], (1, 12))
    with torch.no_grad():
        found = load_decoder(tmp_path / "m.gguf", "none", CONTEXT)(tokens.long())
        torch.testing.assert_close(found, model(tokens).logits, atol=1e-4, rtol=0)


def write_converted(path, model, architecture, more):
    config, gemma = model.config, "gemma" in architecture
    ropes = config.rope_parameters
    base = ropes.get("full_attention", ropes)["rope_theta"]
    fields = {
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": float(base),
    } | more
    tensors = {}
    names = {v: k for k, v in (_GEMMA_NAMES if gemma else _NAMES).items()}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = tensor.numpy()
        module, _, kind = name.rpartition(".")
        block, short = "", module
        if module.startswith("model.layers."):
            number, _, short = module.removeprefix("model.layers.").partition(".")
            block = f"blk.{number}."
        if architecture == "llama" and short.endswith(("q_proj", "k_proj")):
            heads = config.num_attention_heads if "q_" in short else config.num_key_value_heads
            # LlamaModel.permute of llama.cpp's convert_hf_to_gguf.py
            values = values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2)
            values = values.reshape(tensor.shape)
        if gemma and name.endswith("norm.weight"):
            values = values + 1
        tensors[f"{block}{names[short]}.{kind}"] = np.ascontiguousarray(values), "F32"
    if ropes.get("rope_type") == "llama3":
        plain = 1 / base ** (np.arange(0, 8, 2) / 8)
        scaled = np.array(decoder_config(config).ropes[0])
        tensors["rope_freqs.weight"] = (plain / scaled).astype(np.float32), "F32"
    write_gguf(path, architecture, tensors, fields)


def test_every_family_is_tested():
    assert {kind for kind, _ in MODELS.values()} == FAMILIES.keys()


@pytest.mark.parametrize(
    ("kind", "more", "said"),
    [
        ("gpt2", {}, "model_type 'gpt2', which is no supported decoder; allowed: llama, mistral"),
        ("llama", {"hidden_act": "relu"}, "activation 'relu'.*allowed: silu, gelu_pytorch_tanh"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}},
            "rope_type 'yarn'.*allowed: default, linear, llama3",
        ),
        ("qwen2", {"layer_types": ["linear_attention"] * 3}, "linear_attention"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(kind, more, said):
    shape = {} if kind == "gpt2" else SHAPE
    with pytest.raises(ModelError, match=said):
        decoder_config(transformers.AutoConfig.for_model(kind, **shape | more))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
        ("layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
        ("language_model.model.norm.weight", "model.norm.weight"),  # Gemma 3 with images
        ("model.language_model.norm.weight", "model.norm.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight", None),
        ("model.vision_tower.vision_model.post_layernorm.bias", None),
        ("multi_modal_projector.mm_input_projection_weight", None),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", None),  # Llama 2
    ],
)
def test_names_of_other_snapshots(name, found):
    assert text_name(name) == found


def test_weights_of_another_model_are_refused(tmp_path):
    theirs("llama with biases").save_pretrained(tmp_path)
    config = transformers.AutoConfig.for_model("llama", **SHAPE)
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"no use for: model\.layers\.0.*bias"):
        load_decoder(tmp_path, "none", CONTEXT)
    transformers.AutoConfig.for_model("qwen3", **SHAPE, head_dim=8).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no use for"):
        load_decoder(tmp_path, "none", CONTEXT)


@pytest.mark.parametrize("length", [1, 65])
def test_context_the_model_was_not_trained_for_is_refused(tmp_path, length):
    theirs("smollm2").save_pretrained(tmp_path)
    assert config_of(tmp_path).max_positions == 64
    with pytest.raises(ModelError, match=r"context_length: \d+; allowed: 2 to 64"):
        load_decoder(tmp_path, "states", length)
    with pytest.raises(ModelError, match=f"cache: both; allowed: {', '.join(CACHES)}"):
        load_decoder(tmp_path, "both", 32)


def test_tied_head_shares_the_embeddings_memory(tmp_path):
    theirs("smollm2").save_pretrained(tmp_path)
    model = load_decoder(tmp_path, "none", CONTEXT)
    head, embedding = model.lm_head.weight, model.model.embed_tokens.weight
    assert head is not embedding
    assert head.data_ptr() == embedding.data_ptr()
