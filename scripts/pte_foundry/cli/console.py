"""How the commands print: tables, and texts that come from files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pte_foundry.terminal import make_console, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_UNBOUNDED = 10_000  # characters a line


def cell(text: object, style: str = "") -> Text:
    """Returns a text of a table as it is: without markup, and without control characters."""
    from rich.text import Text

    return Text(printable(str(text)), style=style)


def console() -> Console:
    """Returns a console; to a pipe, it prints each row of a table on one line."""
    # No markup and no emoji: "[red]" and ":x:" in a name are part of the name.
    made = make_console(highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = _UNBOUNDED
    return made


def table(*titles: str, right: tuple[str, ...] = (), indent: bool = False) -> Table:
    """Returns an empty table without lines, its titles dim, the columns ``right`` aligned so."""
    from rich.table import Table

    made = Table(box=None, pad_edge=indent, header_style="dim", collapse_padding=True)
    for title in titles:
        made.add_column(title, justify="right" if title in right else "left", overflow="fold")
    return made


def print_facts(console: Console, facts: Mapping[str, str]) -> None:
    """Prints keys and values in two columns."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for key, value in facts.items():
        grid.add_row(cell(key), cell(value))
    if facts:
        console.print(grid)
