"""Protects `pte-foundry generate`: the text of an artifact is that of the eager model."""

import pytest
import torch
from pte_foundry.errors import InputError
from pte_foundry.lowering import edge_program
from pte_foundry.lowering.coreml import lower
from pte_foundry.models.decoder import artifact as artifacts
from pte_foundry.models.decoder.artifact import interface_of
from pte_foundry.models.decoder.caches import empty_decoder
from pte_foundry.models.decoder.config import decoder_config, library
from pte_foundry.models.decoder.generate import Interface, Sampling, Session, generate
from pte_foundry.models.decoder.metadata import constant_methods
from pte_foundry.models.decoder.tokens import Text
from pte_foundry.models.decoder.weights import load_weights
from pte_foundry.models.snapshots import pack
from pte_foundry.pte import Pte
from pte_foundry.terminal import lines
from tokenizers import AddedToken

from tests.byte_tokenizer import byte_tokenizer
from tests.unit.lowering.test_lowering import TARGET

transformers = library()
CONTEXT, PREFILL = 32, 8
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "{{ bos_token }}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}{{ bos_token }}assistant: {% endif %}"
)
CONFIG = decoder_config(
    transformers.Qwen3Config(
        vocab_size=260,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
)


def decoder(cache):
    """A model whose tokens depend on all before: its weights are far from zero."""
    made = empty_decoder(CONFIG, cache, CONTEXT)
    torch.manual_seed(0)
    shapes = {n: p.shape for n, p in made.named_parameters() if n != "lm_head.weight"}
    return load_weights(made, [(n, lambda s=s: torch.randn(s) * 0.4) for n, s in shapes.items()])


def lowered(model, sample, shapes=None, enumerated=None, version=9):
    program = torch.export.export(model, sample, dynamic_shapes=shapes, strict=False)
    target = TARGET | {
        "specification_version": version,
        "compute_precision": "float32",
        "enumerated_shapes": enumerated,
        "partitioner": TARGET["partitioner"] | {"lower_full_graph": True},
    }
    return lower(edge_program.make(program, []), target)


def given(length, *more):
    return torch.zeros(1, length).long(), torch.arange(length).long(), *more


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    """A .pte with states, which takes calls of 1 and 8 tokens, and its tokenizer beside it."""
    folder = tmp_path_factory.mktemp("artifact")
    length = torch.export.Dim("length", min=1, max=PREFILL)
    enumerated = {"tokens": [[1, 1], [1, PREFILL]], "positions": [[1], [PREFILL]]}
    made = lowered(decoder("states"), given(PREFILL), ({1: length}, {0: length}), enumerated)
    (folder / "a.pte").write_bytes(made)
    write_tokenizer_files(folder / "tokenizer")
    return folder / "a.pte"


def write_tokenizer_files(folder):
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>")])
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = '{"bos_token": "<s>", "eos_token": {"content": "</s>"}}'
    (folder / "tokenizer_config.json").write_text(settings)
    (folder / "chat_template.jinja").write_text(TEMPLATE)


def eager(tokens, count):
    """The greedy continuation by the eager model without a cache."""
    model, text = decoder("none"), list(tokens)
    with torch.no_grad():
        for _ in range(count):
            text.append(model(torch.tensor([text]).long())[0, -1].argmax().item())
    return text[len(tokens) :]


@pytest.mark.parametrize("prompt", ["The quick brown fox", "é"])  # 3 calls; one of 2 bytes, padded
def test_text_of_an_artifact_is_that_of_the_eager_model(call, artifact, prompt):
    text = Text.load(artifact.parent / "tokenizer")
    expected = eager(text.encode(prompt), 8)
    assert len(set(expected)) > 3
    code, out, err = call("generate", artifact, "--prompt", prompt, "--tokens", 8)
    assert code == 0, err
    # The stream keeps the bytes of a character that is not complete.
    assert out.rstrip("\n") in lines("".join(text.stream(expected)))
    assert out.strip()
    assert "8 written" in err


def test_chat_is_put_into_the_template(call, artifact):
    text = Text.load(artifact.parent / "tokenizer")
    tokens = text.chat([{"role": "user", "content": "Hi"}])
    assert tokens == text.tokenizer.encode("<s>user: Hi\n<s>assistant: ").ids
    assert tokens[0] == text.begin
    with pytest.raises(InputError, match="refuses the conversation: no tools"):
        text.chat([{"role": "tool", "content": ""}])
    code, out, _ = call("generate", artifact, "--chat", "--prompt", "Hi", "--tokens", 3)
    assert code == 0
    assert out.rstrip("\n") in lines("".join(text.stream(eager(tokens, 3))))


def test_tokenizer_of_the_artifacts_model_is_found(call, artifact, tmp_path):
    folder = artifact.parent / "tokenizer"
    built = tmp_path / "results/pte/net/plain/ios18.pte"
    built.parent.mkdir(parents=True)
    built.write_bytes(artifact.read_bytes())
    (tmp_path / "snapshot").mkdir()
    for path in folder.iterdir():
        (tmp_path / "snapshot" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "snapshot/config.json").write_text("{}")
    pack(tmp_path / "snapshot", tmp_path / "results/fetch/net/weights/folder.zip")
    given = ("--prompt", "Hi", "--tokens", 2)
    assert call("generate", built, *given)[:2] == call("generate", artifact, *given)[:2]


def test_what_cannot_be_generated_is_said(call, artifact, tmp_path, monkeypatch):
    def said(*arguments):
        code, _, err = call("generate", *arguments)
        assert code == 1
        return err

    assert "more tokens, expected 1 to 32" in said(artifact, "--prompt", "x" * 33)
    assert "expected 1 to 32" in said(artifact, "--prompt", "")
    assert "--system needs --chat" in said(artifact, "--prompt", "x", "--system", "y")
    alone = tmp_path / "alone.pte"
    alone.write_bytes(artifact.read_bytes())
    assert "Name one with --tokenizer" in said(alone, "--prompt", "x")
    monkeypatch.setattr(artifacts, "_STYLES", {})
    message = "not called like a decoder of pte-foundry: method 'forward' takes positions, tokens"
    assert message in said(artifact, "--prompt", "x")


def test_caches_as_inputs_are_kept_by_the_session():
    """From iOS16 on; the artifact has two blocks of keys and values for what the caller writes."""
    held = torch.zeros(2, 1, 2, CONTEXT, 8)
    program = Pte.load(lowered(decoder("inputs"), given(1, *held.unbind()), version=7))
    interface = interface_of(program)
    assert interface == Interface("inputs", CONTEXT, {"forward": (1,)}, (1, 2, CONTEXT, 8))
    session = Session(lambda method, *given: program.run(given, method), interface)
    prompt = [3, 1, 4, 1, 5]
    assert list(generate(session, prompt, 6)) == eager(prompt, 6)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--tokens", "0", "expected a whole number above 0"),
        ("--tokens", "x", "expected a whole number above 0"),
        ("--temperature", "-1", "expected 0 or more"),
        ("--temperature", "nan", "expected 0 or more"),
        ("--temperature", "x", "expected 0 or more"),
    ],
)
def test_values_of_options_are_refused_with_what_is_allowed(call, option, value, expected):
    code, _, err = call("generate", "a.pte", "--prompt", "x", f"{option}={value}")
    assert (code, f"{value!r}: {expected}" in err) == (2, True)


def test_the_context_ends_the_text():
    interface = Interface("none", CONTEXT, {"forward": (CONTEXT,)})
    model = decoder("none")
    session = Session(lambda _, tokens: [model(tokens).detach()], interface)
    found = list(generate(session, [1, 2], 100))
    assert found == eager([1, 2], 31)
    with pytest.raises(InputError, match="expected 1 to 0"):
        session.feed([1])


def test_temperature_chooses_by_chance_and_the_seed_repeats_it():
    logits = torch.tensor([0.0, 1.0, 2.0])

    def drawn(temperature, seed):
        choose = Sampling(temperature, seed).chooser()
        return [choose(logits) for _ in range(40)]

    assert set(drawn(0, 0)) == {2}
    assert drawn(1, 1) == drawn(1, 1) != drawn(1, 2)
    assert set(drawn(1, 1)) == {0, 1, 2}


@pytest.mark.parametrize(
    ("interface", "expected"),
    [
        (Interface("states", 32, {"forward": (1, 8)}), (8, 32, True, False)),
        (Interface("states", 32, {"forward": range(1, 9)}), (8, 32, True, True)),
        (Interface("states", 32, {"forward": (1,)}), (1, 32, True, False)),
        (Interface("none", 32, {"forward": (32,)}), (32, 32, False, False)),
    ],
)
def test_constant_methods_tell_a_runner_which_calls_it_can_make(interface, expected):
    found = constant_methods(CONFIG, interface, 256, [257, 258])
    names = ("get_max_seq_len", "get_max_context_len", "use_kv_cache", "enable_dynamic_shape")
    assert tuple(found[name] for name in names) == expected
    assert (found["get_bos_id"], found["get_eos_ids"]) == (256, [257, 258])
    assert (found["get_vocab_size"], found["get_n_layers"]) == (260, 1)
    assert "get_bos_id" not in constant_methods(CONFIG, interface, None, [257])
