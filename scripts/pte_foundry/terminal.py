"""What is written to a terminal: text of files and of others must not control it.

Names and messages come from files that somebody else made. Printed raw, they could recolour, hide
or rewrite what the terminal shows, or set its title.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console


def printable(text: str) -> str:
    """Escapes what a terminal would interpret: control and formatting characters, as ``\\x1b``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def lines(text: str) -> str:
    """As :func:`printable`, but line feeds and tabs stay."""
    if text.isprintable():
        return text
    # JSON escapes all control characters but DEL; here it gets the escape that JSON has for it.
    kept = {"\n": "\n", "\t": "\t", "\x7f": "\\u007f"}
    return "".join(kept.get(c) or printable(c) for c in text)


class Screen:
    """A text stream that escapes what is written to it with :func:`lines`.

    Everything else is that of the stream within, ``raw``.
    """

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw

    def write(self, text: str) -> int:
        """Write a text, escaped; return its length."""
        self.raw.write(lines(text))
        return len(text)

    def writelines(self, texts: Iterable[str]) -> None:
        """Write several texts."""
        for text in texts:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


@contextmanager
def screened() -> Iterator[None]:
    """Within it, nothing that is printed controls the terminal."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Screen(out), Screen(err)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err


def make_console(*, stderr: bool = False, **options: Any) -> Console:
    """A console of rich that escapes texts and keeps its own colours. Takes rich's options."""
    from rich.console import Console
    from rich.segment import Segment

    class Escaping(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # for the command's main(); rich itself would exit with 1

        @property
        def file(self) -> Any:
            stream = Console.file.fget(self)
            return stream.raw if isinstance(stream, Screen) else stream

        @file.setter
        def file(self, stream: Any) -> None:
            Console.file.fset(self, stream)

        def render(self, *arguments: Any, **named: Any) -> Iterator[Segment]:
            for segment in super().render(*arguments, **named):
                if segment.control or segment.text.isprintable():
                    yield segment
                else:
                    yield Segment(lines(segment.text), segment.style)

    return Escaping(stderr=stderr, **options)
