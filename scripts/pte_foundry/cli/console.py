"""Where the commands print their tables."""

from rich.console import Console

_UNBOUNDED = 10_000  # characters a line


def console() -> Console:
    """Returns a console; to a pipe, it prints each row of a table on one line."""
    made = Console(highlight=False)
    if not made.is_terminal:
        made.width = _UNBOUNDED
    return made
