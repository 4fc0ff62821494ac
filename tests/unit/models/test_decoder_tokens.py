"""Protects the tokenizer that belongs to an artifact: it reads text as that of the source does."""

import json
import subprocess
import sys

import numpy as np
import pytest
from pte_foundry.errors import ModelError
from pte_foundry.files import sha256
from pte_foundry.models import snapshots
from pte_foundry.models.decoder import TOKENIZER_FILES, tokens
from pte_foundry.models.decoder.tokens import Text, write_tokenizer
from tokenizers import pre_tokenizers

from tests.byte_tokenizer import byte_tokenizer, write_byte_tokenizer
from tests.gguf_files import write_gguf

TEMPLATE = (
    "{% for message in messages %}{{ bos_token }}{{ message.role }}: {{ message.content }}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
SHAPE = {
    "block_count": 1,
    "embedding_length": 32,
    "feed_forward_length": 32,
    "attention.head_count": 2,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "context_length": 32,
}
MERGES = ["1 9", "9 5", "19 95", "' S", "Ġ Ġ", "ĠĠ Ġ"]


@pytest.fixture
def snapshot(tmp_path):
    folder = tmp_path / "snapshot"
    write_byte_tokenizer(folder, TEMPLATE)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "generation_config.json").write_text('{"eos_token_id": [257, 7], "top_p": 0.9}')
    return folder


def with_merges(path, split):
    """A GGUF file whose tokenizer merges pairs that some ways of splitting keep apart."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = ["<s>", "</s>", *letters, *(merge.replace(" ", "") for merge in MERGES)]
    table = np.zeros((len(vocabulary), 32), np.float32)
    tensors = {"token_embd.weight": (table, "F32")}
    return write_gguf(path, "llama", tensors, SHAPE, vocabulary, MERGES, split)


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("default", ["'", "S", "ĠĠ", "Ġ", "1995"]),
        ("smollm", ["'", "S", "ĠĠĠ", "1", "9", "9", "5"]),
        ("qwen2", ["'S", "ĠĠ", "Ġ", "1", "9", "9", "5"]),
        ("llama-bpe", ["'S", "ĠĠ", "Ġ", "19", "9", "5"]),
    ],
)
def test_a_gguf_file_says_how_text_is_split(tmp_path, split, expected):
    text = Text.of(with_merges(tmp_path / "m.gguf", split))
    assert text.tokenizer.encode("'S   1995").tokens == expected


def test_the_step_writes_what_apps_and_runners_read(tmp_path, snapshot):
    archive, folder = tmp_path / "snapshot.zip", tmp_path / "tokenizer"
    snapshots.pack(snapshot, archive)
    files = [folder / name for name in TOKENIZER_FILES]
    notes = [folder / f"{name}.sha256" for name in TOKENIZER_FILES]
    step = [sys.executable, "-P", "-m", "pte_foundry.steps.tokenizer", "--log", tmp_path / "log"]
    subprocess.run(
        [*step, "--weights", archive, "--output", *files, "--digests", *notes], check=True
    )
    assert {path.name for path in folder.iterdir()} == {path.name for path in files + notes}
    assert notes[0].read_text() == f"{sha256(files[0])}  tokenizer.json\n"
    text = Text.load(folder)
    assert text.encode("A <eos>") == [*byte_tokenizer().encode("A ").ids, 257]
    assert text.tokenizer.decode(text.chat([{"role": "user", "content": "Hi"}])) == (
        "user: Hi\nassistant: "
    )
    assert (text.begin, text.ends) == (256, (257, 7))
    assert json.loads(files[2].read_text())["top_p"] == 0.9


def test_a_tokenizer_that_reads_otherwise_once_written_is_refused(tmp_path, snapshot, monkeypatch):
    load = Text.load.__func__

    def damaged(cls, folder):
        found = load(cls, folder)
        found.tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        return found

    monkeypatch.setattr(tokens.Text, "load", classmethod(damaged))
    with pytest.raises(ModelError, match=r"another one once it is written: 'The capital"):
        write_tokenizer(snapshot, tmp_path / "tokenizer")


def test_weights_without_a_tokenizer_are_told_by_their_name(tmp_path, snapshot):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (snapshot / name).unlink()
    with pytest.raises(ModelError, match=r"tokenizer of snapshot"):
        write_tokenizer(snapshot, tmp_path / "tokenizer")
