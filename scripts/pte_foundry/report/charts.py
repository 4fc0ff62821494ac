"""Vega-Lite plots: size against SQNR of a model's builds, and the errors of a build's layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pte_foundry.report import text
from pte_foundry.report.schema import SummaryRecord
from pte_foundry.validate.divergence_schema import LayerDivergence

# Ten hues that differ on white and on near-black.
PALETTE = (
    "#4c78d8",
    "#e8a317",
    "#e4593f",
    "#2fa38c",
    "#9a5fe0",
    "#e86fa4",
    "#6b9e2e",
    "#3aa7d6",
    "#a8734b",
    "#8a8f98",
)


def scheme_of(build: SummaryRecord) -> str:
    """Returns the compression scheme of a build, or its recipe's name if that is unknown."""
    return build["scheme"] or build["build"]["recipe"]


def colours(builds: Sequence[SummaryRecord]) -> dict[str, str]:
    """Returns a colour for every scheme, for all plots; hues repeat after ten schemes."""
    schemes = sorted({scheme_of(build) for build in builds})
    return {scheme: PALETTE[i % len(PALETTE)] for i, scheme in enumerate(schemes)}


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Returns the indices of the points that no other dominates, by rising cost.

    A point dominates another if its cost is not higher and its value not lower, unless the two are
    equal; of equal points only the first is returned.

    Args:
        points: pairs of a cost (lower is better) and a value (higher is better).
    """
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i)):
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front


def size_against_sqnr(
    builds: Sequence[tuple[int, SummaryRecord]], colour_of: Mapping[str, str]
) -> dict[str, Any] | None:
    """Returns the Vega-Lite specification of one model's plot; ``None`` if no build has an SQNR.

    Args:
        builds: the builds of one model, each with its index on the page.
        colour_of: scheme to colour.
    """
    import altair as alt

    drawn = [(i, b) for i, b in builds if b["metrics"].get("sqnr_db") is not None]
    if not drawn:
        return None
    front = pareto_front([(b["bytes"], b["metrics"]["sqnr_db"]) for _, b in drawn])
    largest = max(build["bytes"] for _, build in drawn)
    unit, scale = ("MB", 1e6) if largest >= 1e6 else ("kB", 1e3)
    values = [_point(index, build, scale) for index, build in drawn]
    for position in front:
        values[position]["front"] = True
    _place_names([values[position] for position in front])
    # Logarithmic, because schemes differ by factors; ticks are at powers of two.
    doubling = alt.Scale(type="log", base=2, nice=False, padding=24)
    title = f"size in {unit}, log scale"
    x = alt.X("size:Q", title=title, scale=doubling, axis=alt.Axis(format="~r"))
    y = alt.Y("sqnr:Q", title="SQNR, dB", scale=alt.Scale(zero=False, nice=True, padding=12))
    base = alt.Chart(alt.Data(values=values)).encode(x=x, y=y)
    on_front = base.transform_filter("datum.front")
    # A step, because at a size between two builds the best available one is the smaller.
    line = on_front.mark_line(interpolate="step-after", strokeWidth=1.5, aria=False).encode(
        order="size:Q", color=alt.value("#8a8f98")
    )
    points = base.mark_point(size=90, filled=True, opacity=0.9, cursor="pointer").encode(
        color=alt.Color(
            "scheme:N",
            scale=alt.Scale(domain=list(colour_of), range=list(colour_of.values())),
            legend=None,
        ),
        shape=alt.Shape(
            "status:N",
            scale=alt.Scale(domain=["pass", "fail"], range=["circle", "cross"]),
            legend=None,
        ),
        tooltip=[
            alt.Tooltip(f"{field}:N", title=title)
            for field, title in (
                ("build", "build"),
                ("scheme", "scheme"),
                ("sizeText", "size"),
                ("sqnrText", "SQNR"),
                ("outputText", "worst output"),
                ("worstText", "worst sample"),
                ("task", "task"),
                ("status", "status"),
            )
        ],
        description="build:N",
    )
    names = [
        on_front.transform_filter(f"datum.side == '{side}'")
        .mark_text(align=align, dx=dx, dy=dy, fontSize=11, aria=False)
        .encode(text="recipe:N")
        for side, align, dx, dy in (("above", "right", -9, -5), ("below", "left", 9, 9))
        if any(value["side"] == side for value in values)  # Vega warns of layers without points
    ]
    chart = alt.layer(line, points, *names).properties(
        width="container", height=300, autosize=alt.AutoSizeParams(type="fit", contains="padding")
    )
    return chart.to_dict()


def _place_names(front: Sequence[dict[str, Any]]) -> None:
    """Sets the ``side`` of the points of the front that are labelled with their recipe's name.

    A rising staircase leaves room above to the left and below to the right. A name goes to the side
    where the previous one is farther away, and is left out if neither has a line's height of room.
    """
    heights = [point["sqnr"] for point in front]
    line = 0.06 * (max(heights) - min(heights))
    last = {"below": -math.inf, "above": -math.inf}
    named: set[str] = set()
    for point in front:
        room = {side: point["sqnr"] - height for side, height in last.items()}
        side = max(room, key=room.__getitem__)
        if point is front[-1] and len(front) > 1:
            side = "above"  # below would run over the plot's edge
        if room[side] >= line and point["recipe"] not in named:
            point["side"] = side
            last[side] = point["sqnr"]
            named.add(point["recipe"])


def _point(index: int, build: SummaryRecord, scale: float) -> dict[str, Any]:
    metrics = build["metrics"]
    return {
        "index": index,
        "build": text.build_name(build["build"]),
        "recipe": build["build"]["recipe"],
        "scheme": scheme_of(build),
        "size": build["bytes"] / scale,
        "sizeText": text.size(build["bytes"]),
        "sqnr": metrics["sqnr_db"],
        "sqnrText": text.metric("sqnr_db", metrics["sqnr_db"]),
        "outputText": text.worst_output(metrics, build.get("outputs") or []),
        "worstText": text.metric("sqnr_db", text.worst_sqnr_db(metrics)),
        "task": text.task(metrics),
        "status": build["status"],
        "front": False,
        "side": None,
    }


LAYER_FIELDS = (
    "position",
    "layer",
    "introduced",
    "accumulated",
    "introducedText",
    "accumulatedText",
)
_LAYER, _CARRIED = "#e4593f", "#8a8f98"


def layer_values(layers: Sequence[LayerDivergence]) -> list[list[Any]]:
    """Returns the ``LAYER_FIELDS`` of each layer, or nothing if all layers are exact.

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
            text.layer(layer["layer"]),
            *(_height(value, floor) for value in pair),
            *(text.noise(value) for value in pair),
        ]
        for position, (layer, pair) in enumerate(zip(layers, sqnrs, strict=True))
    ]


def _height(sqnr_db: float | None, floor: float) -> float | None:
    if text.noise(sqnr_db) == text.EXACT:
        return None
    return round(floor if sqnr_db is None else sqnr_db, 1)


def layers() -> dict[str, Any]:
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
