"""Protects `decoder:` models, which need no Python file: samples, methods, conversations."""

import inspect
import zipfile

import pytest
import torch
from pte_foundry.errors import ModelError
from pte_foundry.models import snapshots
from pte_foundry.models.decoder.config import library
from pte_foundry.models.decoder.tokens import TOKENIZER, Text, write_tokenizer
from pte_foundry.models.outputs import NamedSample
from pte_foundry.models.sources import decoder_source as source

from tests.byte_tokenizer import write_byte_tokenizer

transformers = library()
CONTEXT, WINDOW = 32, 20
PROSE = "Many words stand here, one after another, and every one of them is followed by the next. "


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    """The archive of a snapshot: Gemma 3, whose layers differ, with a tokenizer of characters."""
    folder = tmp_path_factory.mktemp("snapshot")
    torch.manual_seed(0)
    config = transformers.Gemma3TextConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=6,
        layer_types=["sliding_attention", "full_attention"],
        max_position_embeddings=64,
        eos_token_id=257,
        bos_token_id=256,
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder / "model")
    write_byte_tokenizer(folder / "model")
    (folder / "model/generation_config.json").write_text('{"eos_token_id": [257, 258]}')
    snapshots.pack(folder / "model", folder / "folder.zip")
    return folder / "folder.zip"


def call(function, snapshot, **options):
    """A function of the source with the options that it takes, as the loader calls it."""
    given = {"data": {}, "weights": snapshot, "context_length": CONTEXT} | options
    taken = inspect.signature(function).parameters
    return function(**{name: value for name, value in given.items() if name in taken})


def runner(model, calls=None):
    """What ``play`` calls; the methods and numbers of tokens of all calls go into a list."""

    def run(method, *inputs):
        if calls is not None:
            calls.append((method, inputs[0].shape[1]))
        with torch.no_grad():
            found = model(*inputs)
        return list(found.values()) if isinstance(found, dict) else [found]

    return run


def conversation(snapshot, **options):
    calls: list = []
    run = runner(call(source.build, snapshot, **options), calls)
    sample = call(source.evaluation, snapshot, window_length=WINDOW, **options)[0][0]
    return call(source.play, snapshot, run=run, sample=sample, **options)["logits"], calls


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({"cache": "states"}, [("forward", 8)] * 2 + [("forward", 1)] * 5),
        ({"cache": "inputs"}, [("prefill", 8)] * 2 + [("decode", 1)] * 5),
        ({"cache": "states", "prefill_length": 1}, [("forward", 1)] * WINDOW),
        ({"cache": "inputs", "prefill_length": 1}, [("decode", 1)] * WINDOW),
    ],
)
def test_conversations_are_the_same_in_every_style(snapshot, options, calls):
    options = {"prefill_length": 8, "decode_length": 5} | options
    found, made = conversation(snapshot, **options)
    expected, (whole,) = conversation(snapshot, cache="none")
    assert whole == ("forward", CONTEXT)
    assert made == calls
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    samples = call(source.methods, snapshot, **options)
    assert {(method, sample[0].shape[1]) for method, sample in samples.items()} <= set(calls)
    # torch.export takes a tensor that is given twice for one input.
    assert all(len({id(tensor) for tensor in sample}) == len(sample) for sample in samples.values())


@pytest.mark.parametrize("cache", ["states", "inputs", "none"])
def test_generated_tokens_are_the_greedy_ones(snapshot, cache):
    options = {"cache": cache, "prefill_length": 8, "window_length": WINDOW}
    run = runner(call(source.build, snapshot, **options))
    sample = call(source.evaluation, snapshot, **options)[0][0]
    options |= {"run": run, "sample": sample, "generate": 5, "prompt_length": 9}
    (tokens,) = call(source.play, snapshot, **options)["tokens"]
    plain, text = call(source.build, snapshot, cache="none"), sample[0, :9].tolist()
    for token, margin in tokens.tolist():
        with torch.no_grad():
            best = plain(torch.tensor([text]))[0, -1].topk(2)
        assert (token, margin) == (
            best.indices[0],
            pytest.approx(1000 * -best.values.diff(), abs=2),
        )
        text.append(token)


def test_agreement_compares_what_the_reference_is_sure_of():
    def outputs(*rows):
        return [NamedSample((torch.tensor([row]),), ["tokens"]) for row in rows]

    theirs = outputs([[1, 500], [2, 99], [3, 500]], [[4, 500], [5, 500], [6, 500]])
    assert source.agreement(theirs, theirs) == {
        "tokens_equal": 1.0,
        "tokens_compared": 4.0,
        "first_difference": 3.0,
    }
    ours = outputs([[1, 0], [8, 0], [9, 0]], [[4, 0], [5, 0], [7, 0]])
    assert source.agreement(ours, theirs) == {
        "tokens_equal": 0.75,
        "tokens_compared": 4.0,
        "first_difference": 1.0,
    }
    logits = [NamedSample((torch.zeros(1),), ["logits"])]
    assert source.agreement(logits, logits) == {}


def test_shapes_that_may_vary_are_those_of_states():
    (tokens, positions) = source.dynamic_shapes(prefill_length=8)["forward"]
    assert (tokens[1].min, tokens[1].max, positions[0]) == (1, 8, tokens[1])
    for options in ({"cache": "inputs"}, {"cache": "none"}, {"prefill_length": 1}):
        assert source.dynamic_shapes(**options) is None


def test_random_weights_are_those_of_the_seed(snapshot):
    def built(seed):
        torch.manual_seed(seed)
        return call(source.build, None, data={"snapshot": snapshot}).model.embed_tokens.weight

    assert torch.equal(built(1), built(1))
    assert not torch.equal(built(1), built(2))


def test_text_becomes_windows_that_share_no_token(snapshot, tmp_path):
    (tmp_path / "a.txt").write_text(PROSE * 3)
    data = {"text": tmp_path / "a.txt"}
    options = {"data": data, "window_length": WINDOW}
    samples, labels = call(source.evaluation, snapshot, **options)
    for_calibration = call(source.calibration, snapshot, **options)
    assert (len(samples), len(for_calibration)) == (8, 3)
    assert all(sample.shape == (1, WINDOW) for sample in samples + for_calibration)
    assert torch.equal(labels[0, :-1], samples[0][0, 1:])
    assert labels.shape == (8, WINDOW)
    assert len(call(source.evaluation, snapshot, **options, windows=2)[0]) == 2
    uniform = [(torch.zeros(1, WINDOW, 300),)] * 8
    assert source.score(uniform, labels)["perplexity"] == pytest.approx(300)
    (tmp_path / "a.txt").write_text("Too short.")
    with pytest.raises(ModelError, match="found 10 tokens of text; give at least 42"):
        call(source.evaluation, snapshot, **options)


def test_a_folder_of_prose_is_read_in_the_order_of_names(tmp_path):
    with zipfile.ZipFile(tmp_path / "folder.zip", "w") as archive:
        archive.writestr("b.rst", f"Title\n=====\n\n{PROSE}`code`.\n\n| a table |\n")
        archive.writestr("a.txt", "first\n")
        archive.writestr("table.rst", "==\n")
        archive.writestr("code.py", b"\xff")
    assert source.prose(tmp_path / "folder.zip") == f"first\n\n{PROSE}code."
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("code.py", "")
    with pytest.raises(ModelError, match=r"no text in the folder; allowed: \.txt, \.md, \.rst"):
        source.prose(tmp_path / "empty.zip")
    (tmp_path / "c.txt").write_bytes(b"\xff")
    with pytest.raises(ModelError, match=r"c\.txt, which is not UTF-8"):
        source.prose(tmp_path / "c.txt")


def test_compiled_python_beside_prose_changes_nothing(tmp_path):
    """A folder of a package has it or not, by whether somebody has imported the package."""
    (tmp_path / "a.txt").write_text("text")
    before = snapshots.folder_digest(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/a.pyc").write_text("compiled")
    assert snapshots.folder_digest(tmp_path) == before


def test_the_tokenizer_of_a_snapshot_is_written_with_all_ends(snapshot, tmp_path):
    with snapshots.unpacked(snapshot) as folder:
        write_tokenizer(folder, tmp_path / "t")
        (folder / TOKENIZER).unlink()
        with pytest.raises(ModelError, match="cannot read the tokenizer"):
            write_tokenizer(folder, tmp_path / "u")
    text = Text.load(tmp_path / "t")
    assert (text.begin, text.ends) == (256, (257, 258))
    assert list(text.stream(text.encode("a€b"))) == ["a", "€", "b"]
    assert list(text.stream([256, *text.encode("ab"), 257])) == ["a", "b"]


@pytest.mark.parametrize("length", [0, 33])
def test_prefill_that_does_not_fit_is_refused(snapshot, length):
    with pytest.raises(ModelError, match=f"prefill_length {length}; allowed: 1 to 32"):
        call(source.methods, snapshot, prefill_length=length)
