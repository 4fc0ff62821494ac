"""The lines of the display, shortened to the width of a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

_GAP = "  "
_BETWEEN = " · "


def clock(seconds: float) -> str:
    """Formats a duration: ``4:05`` or ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def shortened(text: str, width: int) -> str:
    """Cuts a text that is too long in the middle: both ends of a name tell more."""
    if len(text) <= width:
        return text
    if width < 3:
        return "…"[:width]
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def finished_line(
    count: str, message: str, seconds: float, left: float | None, width: int | None
) -> Text:
    """Returns the line of a finished job.

    Args:
        count: of the finished jobs.
        message: what the job did.
        seconds: what it took.
        left: the time left; None: not known.
        width: columns of the terminal; None: do not shorten.
    """
    time = clock(seconds)
    if left is not None and round(left) > 0:
        ending = f"{time}, about {clock(left)} left"
        taken = sum(map(len, (count, message, ending))) + 2 * len(_GAP)
        # What is left is in the last line too.
        time = ending if width is None or taken <= width else time
    if width is not None:
        message = shortened(message, width - len(count) - len(time) - 2 * len(_GAP))
    return Text.assemble((count, "green"), _GAP, message, _GAP, (time, "dim"))


def running_line(messages: Sequence[str], left: float | None, width: int) -> Text:
    """Returns one line with the running jobs, as many as fit, and the time left."""
    start = f"about {clock(left)} left{_BETWEEN}" if left is not None else ""
    for shown in range(len(messages), 0, -1):
        more = [f"{len(messages) - shown} more"] if shown < len(messages) else []
        text = start + _BETWEEN.join([*messages[:shown], *more])
        if len(text) <= width or shown == 1:
            return Text(shortened(text, width), no_wrap=True, overflow="ellipsis")
    return Text(start)
