"""The tokenizer of a decoder: text to tokens and back, chats, special tokens.

Written beside artifacts it is files of Hugging Face's: ``tokenizer.json``, which ExecuTorch's
runners read too, ``tokenizer_config.json`` with the chat template, and ``generation_config.json``.
Reading them takes the package ``tokenizers`` alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.decoders import DecodeStream

from pte_foundry.errors import InputError, ModelError
from pte_foundry.models.decoder import TOKENIZER_FILES
from pte_foundry.models.decoder.gguf import field, open_gguf

TOKENIZER, SETTINGS, GENERATION = TOKENIZER_FILES
TEMPLATE = "chat_template.jinja"

_TEXTS = ("The capital of France is", "It's 1995:  12,5 %", "\n\n  x =\t1\n", "naïve 東京 🙂 ünï")

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS = {
    "smollm": pre_tokenizers.Digits(individual_digits=True),
    "llama-bpe": pre_tokenizers.Split(Regex(_WORDS % "{1,3}"), "isolated"),
    "qwen2": pre_tokenizers.Split(Regex(_WORDS % ""), "isolated"),
}
"""How text is split before its pairs are merged, by ``tokenizer.ggml.pre`` of a GGUF file, which
transformers does not read (llama.cpp, src/llama-vocab.cpp, ``llm_tokenizer_bpe``)."""


@dataclass(frozen=True)
class Text:
    """A tokenizer with what a conversation needs.

    Attributes:
        tokenizer: of the package ``tokenizers``.
        names: the special tokens by role, as ``bos_token``.
        template: the chat template, in Jinja; None if there is none.
        ends: tokens that end an answer.
    """

    tokenizer: Tokenizer
    names: Mapping[str, str]
    template: str | None
    ends: tuple[int, ...]

    @classmethod
    def load(cls, folder: Path) -> Text:
        """Reads what :func:`write_tokenizer` wrote, or the same files of a snapshot.

        Raises:
            InputError: there is no tokenizer, or it is damaged.
        """
        path = folder / TOKENIZER
        if not path.is_file():
            raise InputError(f"{folder}: there is no {TOKENIZER} in this folder")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises bare ones
            raise InputError(f"{path}: not a tokenizer: {error}") from error
        settings = _json(folder / SETTINGS)
        roles = ("bos_token", "eos_token", "unk_token", "pad_token")
        names = {role: _name(settings[role]) for role in roles if settings.get(role)}
        ends = _json(folder / GENERATION).get("eos_token_id")
        if ends is None and "eos_token" in names:
            ends = tokenizer.token_to_id(names["eos_token"])
        ends = () if ends is None else tuple(ends) if isinstance(ends, list) else (ends,)
        template = folder / TEMPLATE
        written = (
            template.read_text(encoding="utf-8")
            if template.is_file()
            else settings.get("chat_template")
        )
        return cls(tokenizer, names, written if isinstance(written, str) else None, ends)

    @classmethod
    def of(cls, source: Path) -> Text:
        """Reads the tokenizer of a snapshot's folder or a GGUF file (:func:`write_tokenizer`)."""
        with TemporaryDirectory(prefix="tokenizer") as folder:
            return write_tokenizer(source, Path(folder))

    @property
    def begin(self) -> int | None:
        """The token that starts a text; None if there is none."""
        return (
            self.tokenizer.token_to_id(self.names["bos_token"])
            if self.names.get("bos_token")
            else None
        )

    def encode(self, text: str) -> list[int]:
        """Returns the tokens of a plain text, with those that the tokenizer puts around one."""
        return self.tokenizer.encode(text).ids

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Returns the tokens of a conversation up to where the model's answer starts.

        Raises:
            InputError: the model has no chat template, or refuses the conversation.
        """
        if self.template is None:
            raise InputError("the tokenizer has no chat template; give plain text")
        from jinja2 import TemplateError

        try:
            text = self._compiled.render(
                messages=list(messages), add_generation_prompt=True, **self.names
            )
        except TemplateError as error:
            raise InputError(f"the chat template refuses the conversation: {error}") from error
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    @cached_property
    def _compiled(self) -> Any:
        """The template as transformers compiles it; it is somebody else's, so in a sandbox."""
        from jinja2.exceptions import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def refuse(message: str) -> None:
            raise TemplateError(message)

        made = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        made.globals["raise_exception"] = refuse
        made.filters["tojson"] = lambda value, indent=None: json.dumps(
            value, ensure_ascii=False, indent=indent
        )
        return made.from_string(self.template)

    def stream(self, tokens: Iterable[int]) -> Iterator[str]:
        """Yields the text of tokens as they come; a character of several tokens with the last."""
        decoding = DecodeStream(skip_special_tokens=True)
        for token in tokens:
            piece = decoding.step(self.tokenizer, token)
            if piece:
                yield piece


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from error


def _name(token: str | Mapping[str, Any]) -> str:
    """The text of a special token; older files have it with its settings."""
    return token if isinstance(token, str) else token["content"]


def write_tokenizer(source: Path, folder: Path) -> Text:
    """Writes the tokenizer of a snapshot's folder or a GGUF file as files for :meth:`Text.load`.

    Returns:
        What the files hold, after a comparison with transformers' tokenizer of the source.

    Raises:
        ModelError: there is none, or transformers cannot read it.
    """
    from pte_foundry.models.decoder.config import library

    transformers = library()
    local = {"local_files_only": True}
    if source.is_dir():
        where, more = source, {"trust_remote_code": False}
    else:
        where, more = source.parent, {"gguf_file": source.name}
    try:
        found = transformers.AutoTokenizer.from_pretrained(where, **local, **more)
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"cannot read the tokenizer of {source.name}: {text}") from error
    if not getattr(found, "is_fast", False):
        raise ModelError(f"has a tokenizer of {type(found).__name__} without a {TOKENIZER}")
    if source.is_file():
        _split(found.backend_tokenizer, source)
    folder.mkdir(parents=True, exist_ok=True)
    # The chat template is in the settings, so that there are the same files with and without one.
    found.save_pretrained(folder, save_jinja_files=False)
    generation = {"bos_token_id": found.bos_token_id, "eos_token_id": found.eos_token_id}
    generation |= _json(source / GENERATION) if source.is_dir() else {}
    (folder / GENERATION).write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")
    written = Text.load(folder)
    _check(written, found)
    return written


def _check(written: Text, found: Any) -> None:
    """Checks that what was written reads text as transformers' tokenizer of the source does."""
    special = "".join(written.names.values())
    for text in (*_TEXTS, f"{special}a{special}"):
        if (ours := written.encode(text)) != (theirs := found(text)["input_ids"]):
            raise ModelError(
                f"has a tokenizer that is another one once it is written: {text!r} becomes {ours} "
                f"and not {theirs}; report this, with the model's name"
            )
    if written.template and "strftime_now" not in written.template:  # else it is another each day
        messages = [{"role": "user", "content": _TEXTS[0]}]
        theirs = found.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        if written.chat(messages) != written.tokenizer.encode(theirs, add_special_tokens=False).ids:
            raise ModelError("has a chat template that is not rendered as transformers does")


def _split(tokenizer: Tokenizer, source: Path) -> None:
    """Lets a tokenizer split text as its GGUF file says."""
    kind = field(open_gguf(source), "tokenizer.ggml.pre")
    if kind in _SPLITS:
        letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "smollm")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([_SPLITS[kind], letters])
        tokenizer.model.ignore_merges = kind == "llama-bpe"
