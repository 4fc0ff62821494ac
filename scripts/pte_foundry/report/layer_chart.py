"""The Vega-Lite plot of a build's layers, from its divergence report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pte_foundry.report import text
from pte_foundry.validate.divergence_schema import LayerDivergence

FIELDS = (
    "position",
    "layer",
    "introduced",
    "accumulated",
    "introducedText",
    "accumulatedText",
)
_LAYER, _CARRIED = "#e4593f", "#8a8f98"


def values(layers: Sequence[LayerDivergence]) -> list[list[Any]]:
    """Returns the ``FIELDS`` of each layer, or nothing if all layers are exact.

    An exact layer has no height. Infinite noise is drawn 10 dB below the lowest finite SQNR.
    """
    sqnrs = [(layer["introduced_sqnr_db"], layer["accumulated_sqnr_db"]) for layer in layers]
    if all(text.noise(value) == text.EXACT for pair in sqnrs for value in pair):
        return []
    finite = [v for pair in sqnrs for v in pair if v is not None and text.noise(v) != text.EXACT]
    floor = min(finite, default=0.0) - 10
    return [
        [
            position,
            text.layer(layer["layer"], layer.get("method")),
            *(_height(value, floor) for value in pair),
            *(text.noise(value) for value in pair),
        ]
        for position, (layer, pair) in enumerate(zip(layers, sqnrs, strict=True))
    ]


def _height(sqnr_db: float | None, floor: float) -> float | None:
    if text.noise(sqnr_db) == text.EXACT:
        return None
    return round(floor if sqnr_db is None else sqnr_db, 1)


def spec() -> dict[str, Any]:
    """Returns the Vega-Lite specification of a build's layers, without data: builds share it."""
    import altair as alt

    axis = alt.Axis(labels=False, ticks=False, grid=False)
    x = alt.X(
        "position:Q",
        title="layers in the order of the fp32 program",
        axis=axis,
        scale=alt.Scale(nice=False, padding=10),
    )
    y = {"title": "SQNR, dB", "scale": alt.Scale(zero=False, nice=True, padding=12)}
    base = alt.Chart(alt.Data(values=[])).encode(x=x)
    line = base.mark_line(strokeWidth=1.5, color=_CARRIED, aria=False).encode(
        y=alt.Y("accumulated:Q", **y)
    )
    shown = [
        alt.Tooltip(f"{field}:N", title=title)
        for field, title in (
            ("layer", "layer"),
            ("introducedText", "introduced, dB"),
            ("accumulatedText", "accumulated, dB"),
        )
    ]
    infinite = alt.datum.introducedText == text.noise(None)
    points = base.mark_point(filled=True, opacity=0.9, color=_LAYER).encode(
        y=alt.Y("introduced:Q", **y),
        shape=alt.condition(infinite, alt.value("cross"), alt.value("circle")),
        size=alt.condition(infinite, alt.value(110), alt.value(45)),
        tooltip=shown,
        description="layer:N",
    )
    chart = alt.layer(line, points).properties(
        width="container", height=200, autosize=alt.AutoSizeParams(type="fit", contains="padding")
    )
    return chart.to_dict()
