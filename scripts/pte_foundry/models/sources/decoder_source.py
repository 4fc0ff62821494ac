"""Language models: decoder-only transformers of ``models.decoder``, with a cache by choice.

weights  a snapshot as one archive (config.json, safetensors, tokenizer), or a GGUF file; for random
         weights it is the data file `snapshot`
data     text: a file of prose, or a folder of .txt, .md and .rst, as windows of tokens; of .rst the
         paragraphs. Without it windows are of random tokens, and nothing is scored
options  cache (states): states, inputs or none (``models.decoder.caches``)
         context_length (256): tokens that the cache has room for, without a cache of a call
         prefill_length (32): tokens of the longest call that reads a prompt
         decode_length (16): tokens of a window that are read one by one, the others by prefill
         window_length (128): tokens of a window, at most context_length
         windows (8): at most this many, for evaluation
         generate (0), prompt_length (16): tokens to write after so many first ones of a window. The
         output `tokens` holds them with their margins, so set the gate equal_fraction to null
         split, split_head: a linear in the blocks, or the head, with more outputs is split
"""

import re
import zipfile
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache as cached
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from pte_foundry.errors import ModelError
from pte_foundry.models.decoder.config import DecoderConfig
from pte_foundry.models.decoder.generate import Interface, Run, Session
from pte_foundry.models.decoder.load import config_of, load_decoder
from pte_foundry.models.decoder.load import stored_weights as stored_weights_of
from pte_foundry.models.decoder.metadata import constant_methods
from pte_foundry.models.decoder.tokens import Text
from pte_foundry.models.snapshots import source_of
from pte_foundry.models.stored_weights import StoredWeight

_RANDOM_WINDOWS = 5
_PROSE = (".txt", ".md", ".rst")
_CLOSE = 100
"""Thousandths of a logit: the choice between two tokens that are closer says nothing."""


def build(
    data: dict[str, Path],
    weights: Path | None = None,
    cache: str = "states",
    context_length: int = 256,
    split: int | None = None,
    split_head: int | None = None,
) -> nn.Module:
    """Returns the decoder with the weights of its source, or with random ones."""
    with _source(data, weights, whole=weights is not None) as source:
        return load_decoder(
            source,
            cache,
            context_length,
            random=weights is None,
            split=split,
            split_head=split_head,
        )


def stored_weights(
    data: dict[str, Path],
    weights: Path | None = None,
    split: int | None = None,
    split_head: int | None = None,
) -> dict[str, StoredWeight]:
    """Returns the quantized weights of a GGUF file, for recipes that keep them."""
    if weights is None:
        return {}
    with _source(data, weights) as source:
        return stored_weights_of(source, split=split, split_head=split_head)


def methods(
    data: dict[str, Path],
    weights: Path | None = None,
    cache: str = "states",
    context_length: int = 256,
    prefill_length: int = 32,
) -> dict[str, tuple[Tensor, ...]]:
    """Returns a sample of each method of the style."""
    if not 1 <= prefill_length <= context_length:
        raise ModelError(f"has prefill_length {prefill_length}; allowed: 1 to {context_length}")
    interface = _interface(data, weights, cache, context_length, prefill_length)
    found: dict[str, tuple[Tensor, ...]] = {}
    for method, lengths in interface.lengths.items():
        count = max(lengths)
        tokens = torch.arange(1, count + 1)[None]
        found[method] = (tokens, torch.arange(count))
        if cache == "none":
            found[method] = (tokens,)
        if cache == "inputs":
            # Two tensors: one that is given twice is one input to torch.export.
            found[method] += (
                torch.zeros(interface.cache_shape),
                torch.zeros(interface.cache_shape),
            )
    return found


def _interface(
    data: dict[str, Path], weights: Path | None, cache: str, context_length: int, prefill: int
) -> Interface:
    """How a model of the style is called."""
    if cache == "none":
        return Interface(cache, context_length, {"forward": (context_length,)})
    if cache == "states":
        return Interface(cache, context_length, {"forward": (1, prefill)})
    config = _config(data, weights)
    shape = (config.layers, config.kv_heads, context_length, config.head_dim)
    lengths = {"prefill": (prefill,), "decode": (1,)} if prefill > 1 else {"decode": (1,)}
    return Interface(cache, context_length, lengths, shape)


def _config(data: dict[str, Path], weights: Path | None) -> DecoderConfig:
    held = weights or data["snapshot"]
    status = held.stat()
    return _config_of(held, status.st_size, status.st_mtime_ns)


@cached
def _config_of(held: Path, _size: int, _changed: int) -> DecoderConfig:
    """The config in a file: a GGUF file takes seconds to open."""
    with _source({}, held) as source:
        return config_of(source)


def constants(
    data: dict[str, Path],
    weights: Path | None = None,
    cache: str = "states",
    context_length: int = 256,
    prefill_length: int = 32,
    shapes: str = "range",
) -> dict[str, Any]:
    """Returns what ExecuTorch's runners ask an artifact (``models.decoder.metadata``)."""
    interface = _interface(data, weights, cache, context_length, prefill_length)
    if cache == "states" and shapes == "range":
        interface = replace(interface, lengths={"forward": range(1, prefill_length + 1)})
    begin, ends = None, ()
    if weights is not None:
        with _source(data, weights) as source:
            text = Text.of(source)
        begin, ends = text.begin, text.ends
    return constant_methods(_config(data, weights), interface, begin, ends)


def dynamic_shapes(cache: str = "states", prefill_length: int = 32) -> dict[str, Any] | None:
    """Returns the range of lengths of a call of the style `states`."""
    if cache != "states" or prefill_length == 1:
        return None
    length = Dim("length", min=1, max=prefill_length)
    return {"forward": ({1: length}, {0: length})}


def calibration(
    data: dict[str, Path], weights: Path | None = None, window_length: int = 128
) -> list[Tensor]:
    """Returns every fifth window."""
    return [window[:, :-1] for window in _windows(data, weights, window_length)[::5]]


def evaluation(
    data: dict[str, Path],
    weights: Path | None = None,
    window_length: int = 128,
    windows: int = 8,
) -> tuple[list[Tensor], Tensor | None]:
    """Returns the other windows; a window's label is, for each of its tokens, the next one."""
    found = _windows(data, weights, window_length)
    del found[::5]
    tokens = [window[:, :-1] for window in found[:windows]]
    if "text" not in data:
        return tokens, None
    return tokens, torch.cat([window[:, 1:] for window in found[:windows]])


def play(
    run: Run,
    sample: Tensor,
    data: dict[str, Path],
    weights: Path | None = None,
    cache: str = "states",
    context_length: int = 256,
    prefill_length: int = 32,
    decode_length: int = 16,
    generate: int = 0,
    prompt_length: int = 16,
) -> dict[str, Tensor]:
    """Reads a window as a prompt, in calls of `prefill_length` tokens, and its end one by one."""
    interface = _interface(data, weights, cache, context_length, prefill_length)
    session, tokens = Session(run, interface), sample[0].tolist()
    first = len(tokens) if cache == "none" else max(len(tokens) - decode_length, 1)
    logits = [session.feed(tokens[:first])]
    logits += [session.feed([token]) for token in tokens[first:]]
    found = {"logits": torch.cat(logits)[None]}
    if generate:
        found["tokens"] = _greedy(Session(run, interface), tokens[:prompt_length], generate)
    return found


def _greedy(session: Session, prompt: list[int], count: int) -> Tensor:
    """The likeliest tokens after a prompt, and by how much, in thousandths: int32 [1, count, 2]."""
    rows, logits = [], session.feed(prompt)
    for _ in range(count):
        (best, second), (token, _) = (part.tolist() for part in logits[-1].float().topk(2))
        rows.append([token, min(int((best - second) * 1000), 10**6)])
        if len(rows) < count:
            logits = session.feed([token])
    return torch.tensor([rows], dtype=torch.int32)


def agreement(outputs: list[Any], reference: list[Any]) -> dict[str, float]:
    """Returns how many generated tokens are those of the reference, with `generate`.

    After a token that the reference chose by a margin below 0.1 both texts may go on differently,
    so its tokens are compared up to there; `first_difference` is the earliest of all.
    """
    if reference[0].get("tokens") is None:
        return {}
    equal, compared, earliest = 0, 0, reference[0]["tokens"].shape[1]
    for ours, theirs in zip(outputs, reference, strict=True):
        (found, _), (tokens, margins) = (side["tokens"][0].T for side in (ours, theirs))
        same, close = found == tokens, margins < _CLOSE
        sure = int(close.int().argmax()) if close.any() else len(close)
        equal, compared = equal + int(same[:sure].sum()), compared + sure
        if not same.all():
            earliest = min(earliest, int((~same).int().argmax()))
    return {
        "tokens_equal": equal / compared if compared else 1.0,
        "tokens_compared": float(compared),
        "first_difference": float(earliest),
    }


def score(outputs: list[Any], labels: Tensor) -> dict[str, float]:
    """Returns the perplexity: the exponential of the mean cross entropy over all tokens."""
    logits = torch.cat([sample[0] for sample in outputs]).double()
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten().long())
    return {"perplexity": losses.exp().item()}


def _source(
    data: dict[str, Path], weights: Path | None, whole: bool = False
) -> AbstractContextManager[Path]:
    """The snapshot's folder, without its weights unless they are asked for, or the GGUF file."""
    return source_of(weights or data["snapshot"], weights=whole)


def _windows(data: dict[str, Path], weights: Path | None, length: int) -> list[Tensor]:
    """The text as windows of tokens, int64 [1, length + 1], that share no token."""
    if "text" not in data:
        generator = torch.Generator().manual_seed(0)
        shape, vocabulary = (_RANDOM_WINDOWS, 1, length + 1), _config(data, weights).vocab_size
        return list(torch.randint(vocabulary, shape, generator=generator))
    with _source(data, weights) as source:
        tokens = Text.of(source).encode(prose(data["text"]))
    count = len(tokens) // (length + 1)
    if count < 2:
        raise ModelError(
            f"found {len(tokens)} tokens of text; give at least {2 * (length + 1)}, for two windows"
        )
    whole = torch.tensor(tokens[: count * (length + 1)])
    return list(whole.reshape(-1, 1, length + 1))


def prose(source: Path) -> str:
    """Returns the text of a file, or of the files of an archive in the order of their names.

    Of reStructuredText (.rst) it is the paragraphs of whole sentences.

    Raises:
        ModelError: a file is not UTF-8, or there is none.
    """
    if not zipfile.is_zipfile(source):
        return _text(source.name, source.read_bytes())
    with zipfile.ZipFile(source) as archive:
        names = sorted(n for n in archive.namelist() if n.endswith(_PROSE))
        if not names:
            raise ModelError(f"found no text in the folder; allowed: {', '.join(_PROSE)}")
        return "\n\n".join(filter(None, (_text(name, archive.read(name)) for name in names)))


def _text(name: str, content: bytes) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"read {name}, which is not UTF-8: {error}") from error
    if not name.endswith(".rst"):
        return text.strip()
    blocks = (" ".join(b.split()) for b in re.sub(r"[`*]|:\w+:", "", text).split("\n\n"))
    return "\n\n".join(b for b in blocks if re.fullmatch(r"[A-Z][^|=<>{}\[\]_]{80,}\.", b))
