"""Vega-Lite plots: size against quality of a model's builds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pte_foundry.report import labels, text
from pte_foundry.report.schema import SummaryRecord

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

_CARRIED = "#8a8f98"


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


@dataclass(frozen=True)
class Axis:
    """What a plot shows over the size.

    Attributes:
        title: the axis' title.
        value: the value of a build; None if it has none.
        cap: the highest value that is drawn in its place; higher ones are arrows at the cap.
        format: how numbers at the axis look, in D3's language.
        front: whether a higher value is better, so that the best builds are a front.
        baseline: the value of the fp32 model in PyTorch, as a line.
    """

    title: str
    value: Callable[[SummaryRecord], float | None]
    cap: float = math.inf
    format: str = ".3~g"
    front: bool = False
    baseline: float | None = None


SQNR_SHOWN_DB = 70.0
"""Above it, no build differs from fp32 in practice: decisions happen below."""

SQNR = Axis(
    "SQNR, dB",
    lambda build: build["metrics"].get("sqnr_db"),
    SQNR_SHOWN_DB,
    front=True,
)


def task_axis(builds: Sequence[SummaryRecord]) -> Axis | None:
    """Returns the axis of the first task metric that a model's builds have; None without one.

    Whether more is better is the task's own matter, so it has no front.
    """
    names = [name for build in builds for name in text.task_metrics(build["metrics"])]
    name = next((name for name in names if not name.endswith("_change")), None)
    if name is None:
        return None
    references = [
        build["metrics"][name] - build["metrics"][f"{name}_change"]
        for build in builds
        if None not in (build["metrics"].get(name), build["metrics"].get(f"{name}_change"))
    ]
    return Axis(
        text.label(name),
        lambda build: build["metrics"].get(name),
        format=".3~%" if text.is_share(name) else ".3~g",
        baseline=references[0] if references else None,
    )


def size_against(
    axis: Axis, builds: Sequence[tuple[int, SummaryRecord]], colour_of: Mapping[str, str]
) -> dict[str, Any] | None:
    """Returns the Vega-Lite specification of one model's plot; ``None`` if no build has a value.

    Args:
        axis: what is shown.
        builds: the builds of one model, each with its index on the page.
        colour_of: scheme to colour.
    """
    import altair as alt

    drawn = [(i, b) for i, b in builds if axis.value(b) is not None and b["bytes"]]
    if not drawn:
        return None
    largest = max(build["bytes"] for _, build in drawn)
    unit, scale = ("MB", 1e6) if largest >= 1e6 else ("kB", 1e3)
    values = [_point(axis, index, build, scale) for index, build in drawn]
    front = pareto_front([(b["bytes"], axis.value(b)) for _, b in drawn]) if axis.front else []
    for position in front:
        values[position]["front"] = True
    _place_names(values, front, axis)
    # Logarithmic, because schemes differ by factors; ticks are at powers of two.
    doubling = alt.Scale(type="log", base=2, nice=False, padding=24)
    title = f"size in {unit}, log scale"
    capped = any(axis.value(build) > axis.cap for _, build in drawn)
    arrows = f" (arrows: above {axis.cap:.0f})" if capped else ""
    x = alt.X("size:Q", title=title, scale=doubling, axis=alt.Axis(format="~r"))
    y = alt.Y(
        "value:Q",
        title=f"{axis.title}{arrows}",
        scale=alt.Scale(zero=False, nice=True, padding=12),
        axis=alt.Axis(format=axis.format),
    )
    base = alt.Chart(alt.Data(values=values)).encode(x=x, y=y)
    layers = []
    if axis.baseline is not None:
        level = alt.Chart(alt.Data(values=[{"value": axis.baseline}]))
        layers.append(
            level.mark_rule(strokeDash=[4, 4], color=_CARRIED, aria=False).encode(
                y=alt.Y("value:Q")
            )
        )
    if front:
        # A step, because at a size between two builds the best available one is the smaller.
        line = base.transform_filter("datum.front").mark_line(
            interpolate="step-after", strokeWidth=1.5, aria=False
        )
        layers.append(line.encode(order="size:Q", color=alt.value(_CARRIED)))
    if any(value["line"] for value in values):  # the recipes of a sweep, by their size
        line = base.transform_filter("datum.line").mark_line(strokeWidth=1, opacity=0.5, aria=False)
        layers.append(line.encode(order="size:Q", detail="line:N", color=_colour(colour_of)))
    layers.append(_points(base, colour_of))
    key = f"width < {labels.WIDTHS['wide']} ? 'side' : 'wide'"  # also after the window is resized
    # No filter: Vega warns of a layer without points.
    layers += [
        base.transform_calculate(name=f"datum[{key}] == '{side}' ? datum.recipe : ''")
        .mark_text(align=align, baseline=baseline, dx=dx, dy=dy, fontSize=11, aria=False)
        .encode(text="name:N")
        for side, (align, baseline, dx, dy) in labels.SIDES.items()
        if any(side in (value["side"], value["wide"]) for value in values)
    ]
    chart = alt.layer(*layers).properties(
        width="container", height=300, autosize=alt.AutoSizeParams(type="fit", contains="padding")
    )
    return chart.to_dict()


def _colour(colour_of: Mapping[str, str]) -> Any:
    import altair as alt

    scale = alt.Scale(domain=list(colour_of), range=list(colour_of.values()))
    return alt.Color("scheme:N", scale=scale, legend=None)


def _points(base: Any, colour_of: Mapping[str, str]) -> Any:
    import altair as alt

    marks = ["circle", "cross", "triangle-up"]
    return base.mark_point(size=90, filled=True, opacity=0.9, cursor="pointer").encode(
        color=_colour(colour_of),
        shape=alt.Shape("mark:N", scale=alt.Scale(domain=marks, range=marks), legend=None),
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


def _place_names(values: Sequence[dict[str, Any]], front: Sequence[int], axis: Axis) -> None:
    """Sets the sides of the points whose names have room; those of the front come first."""
    heights = [value["value"] for value in values]
    if axis.baseline is not None:
        heights.append(axis.baseline)
    places = list(
        zip(
            _spread([math.log(value["size"]) for value in values]),
            _spread(heights)[: len(values)],
            strict=True,
        )
    )
    names = [value["recipe"] for value in values]
    for key, width in labels.WIDTHS.items():
        for value, side in zip(values, labels.place(places, names, front, width), strict=True):
            value[key] = side


def _spread(numbers: Sequence[float]) -> list[float]:
    """Moves numbers to 0 to 1."""
    low, high = min(numbers), max(numbers)
    return [(n - low) / (high - low) if high > low else 0.5 for n in numbers]


def _point(axis: Axis, index: int, build: SummaryRecord, scale: float) -> dict[str, Any]:
    metrics, value = build["metrics"], axis.value(build)
    mark = "circle" if value <= axis.cap else "triangle-up"
    return {
        "index": index,
        "build": text.build_name(build["build"]),
        "recipe": build["build"]["recipe"],
        "scheme": scheme_of(build),
        "size": build["bytes"] / scale,
        "sizeText": text.size(build["bytes"]),
        "value": min(value, axis.cap),
        "mark": "cross" if build["status"] == "fail" else mark,
        "sqnrText": text.metric("sqnr_db", metrics.get("sqnr_db")),
        "outputText": text.worst_output(metrics, build.get("outputs") or []),
        "worstText": text.metric("sqnr_db", text.worst_sqnr_db(metrics)),
        "task": text.task(metrics),
        "status": build["status"],
        "line": f"{build['sweep']}/{build['build']['target']}" if build.get("sweep") else None,
        "front": False,
    }
