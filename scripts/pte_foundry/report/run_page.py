"""Renders the page of a run: when and where it was, and what changed since the one before.

It is not part of the results, which are the same whenever and wherever they are built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pte_foundry.report.comparison import HEAD, Change, headline
from pte_foundry.report.page import filled


def render(facts: Mapping[str, str], changes: Sequence[Change] | None) -> str:
    """Returns the page as HTML.

    Args:
        facts: date, host, config and so on, by name.
        changes: all builds against the run before; None if there was none.
    """
    return filled(
        "run.html.j2",
        facts=facts,
        head=HEAD,
        first=changes is None,
        headline=headline(list(changes or ())),
        rows=[change.cells() for change in changes or () if change.state != "same"],
    )
