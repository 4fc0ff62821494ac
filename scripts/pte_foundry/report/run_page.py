"""Renders the page of a run: when and where it was, and what changed since the one before.

It is not part of the results, which are the same whenever and wherever they are built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pte_foundry.report.comparison import HEAD, Change, headline
from pte_foundry.report.page import ASSETS


def render(facts: Mapping[str, str], changes: Sequence[Change] | None) -> str:
    """Returns the page as HTML.

    Args:
        facts: date, host, config and so on, by name.
        changes: all builds against the run before; None if there was none.
    """
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("run.html.j2").render(
        facts=facts,
        head=HEAD,
        first=changes is None,
        headline=headline(list(changes or ())),
        rows=[change.cells() for change in changes or () if change.state != "same"],
        style=Markup((ASSETS / "page.css").read_text(encoding="utf-8")),
    )
