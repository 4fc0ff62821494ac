"""Text from a decoder, whatever runs it: the eager model, a quantized program or an artifact.

A :class:`Session` cuts tokens into calls that the program accepts, pads them, and keeps the caches
that the caller has to keep. So ``play()`` and ``pte-foundry generate`` share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pte_foundry.errors import InputError

Run = Callable[..., Sequence[Any]]
"""``run(method, *inputs)`` returns a program's outputs in order."""


@dataclass(frozen=True)
class Interface:
    """How a decoder is called.

    Attributes:
        cache: one of ``caches.CACHES``.
        context_length: tokens that it attends to.
        lengths: by method, the numbers of tokens that a call can have, ascending.
        cache_shape: of the keys of all blocks, for ``inputs``.
    """

    cache: str
    context_length: int
    lengths: Mapping[str, Sequence[int]]
    cache_shape: tuple[int, ...] = ()

    def call_for(self, count: int) -> tuple[str, int]:
        """Returns the method and the length of the call that takes the most of ``count`` tokens.

        Of several that take all, it is the shortest: the rest of a call is padding.
        """
        calls = [(n, method) for method, lengths in self.lengths.items() for n in lengths]
        enough = [call for call in calls if call[0] >= count]
        length, method = min(enough) if enough else max(calls)
        return method, length


@dataclass
class Session:
    """One text, read and written token by token.

    Attributes:
        run: calls the program.
        interface: of the program.
        tokens: that it has read.
    """

    run: Run
    interface: Interface
    tokens: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        shape = self.interface.cache_shape
        self._caches = [torch.zeros(shape), torch.zeros(shape)] if shape else []

    def feed(self, tokens: Sequence[int]) -> Tensor:
        """Reads tokens; returns the logits after each of them, [len(tokens), vocab_size].

        Raises:
            InputError: there is no room for them.
        """
        room = self.interface.context_length - len(self.tokens)
        if not 0 < len(tokens) <= room:
            raise InputError(
                f"{len(tokens)} more tokens, expected 1 to {room}: the context has "
                f"{self.interface.context_length}, of which {len(self.tokens)} are taken"
            )
        if self.interface.cache == "none":
            return self._anew(tokens)
        rows, rest = [], list(tokens)
        while rest:
            method, length = self.interface.call_for(len(rest))
            rows.append(self._step(method, length, rest[:length]))
            rest = rest[length:]
        return torch.cat(rows)

    def _step(self, method: str, length: int, tokens: list[int]) -> Tensor:
        count, start = len(tokens), len(self.tokens)
        padded = torch.tensor([tokens + [0] * (length - count)])
        # A token at the position behind the last one is padding (``caches``).
        positions = torch.full((length,), self.interface.context_length)
        positions[:count] = torch.arange(start, start + count)
        logits, *new = self.run(method, padded, positions, *self._caches)
        for cache, fresh in zip(self._caches, new, strict=True):
            cache[:, :, start : start + count] = fresh[:, :, :count]
        self.tokens += tokens
        return logits[0, :count]

    def _anew(self, tokens: Sequence[int]) -> Tensor:
        self.tokens += tokens
        method, length = self.interface.call_for(len(self.tokens))
        padded = self.tokens + [0] * (length - len(self.tokens))
        (logits,) = self.run(method, torch.tensor([padded]))
        return logits[0, len(self.tokens) - len(tokens) : len(self.tokens)]


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: the likeliest one, or with a temperature by chance."""

    temperature: float = 0.0
    seed: int = 0

    def chooser(self) -> Callable[[Tensor], int]:
        """Returns a function from logits [vocab_size] to a token."""
        if not self.temperature:
            return lambda logits: int(logits.argmax())
        generator = torch.Generator().manual_seed(self.seed)

        def choose(logits: Tensor) -> int:
            shares = torch.softmax(logits.float() / self.temperature, -1)
            return int(torch.multinomial(shares, 1, generator=generator))

        return choose


def generate(
    session: Session,
    prompt: Sequence[int],
    limit: int,
    ends: Sequence[int] = (),
    sampling: Sampling = Sampling(),
) -> Iterator[int]:
    """Yields the tokens that follow a prompt, until one of ``ends``, ``limit`` or the context.

    Raises:
        InputError: the prompt is empty or longer than the context.
    """
    choose = sampling.chooser()
    logits = session.feed(prompt)
    for number in range(limit):
        token = choose(logits[-1])
        if token in ends:
            return
        yield token
        if number + 1 == limit or len(session.tokens) == session.interface.context_length:
            return
        logits = session.feed([token])
