"""The benchmark's table on the terminal and its picture."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pte_foundry.files import replacing

_NAMES = {"time": "time", "squared_error": "squared error"}


def seconds(value: float) -> str:
    """Formats a duration with three digits, in s, ms or µs."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-6:.3g} µs"


def ratio(value: float) -> str:
    """Formats a ratio with as many digits as matter: ``0.42×``, ``1.003×``, ``38.6×``, ``120×``."""
    if 0.9 < value < 1.1:
        return f"{value:.3f}×"
    return f"{value:.0f}×" if value >= 100 else f"{value:.3g}×"


def table(record: Mapping[str, Any], console: Console) -> None:
    """Prints a document of ``pte_foundry.bench.record.record`` as a table."""
    shown = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    shown.add_column("benchmark", overflow="fold")
    titles = ("ours", "baseline", "time", "squared error", "load", "peak", "net", "result")
    for title in titles:
        shown.add_column(title, justify="right", no_wrap=True)
    for benchmark in record["benchmarks"]:
        shown.add_row(Text(benchmark["title"], style="bold"))
        for row in benchmark["comparisons"]:
            shown.add_row(
                Text(f"  {row['case']}"),
                seconds(row["ours"]["median_s"]),
                seconds(row["baseline"]["median_s"]) if row["baseline"] else "",
                *(ratio(row["ratios"][n]) if n in row["ratios"] else "" for n in _NAMES),
                *_footprint(row.get("facts", {})),
                _sameness(row.get("facts", {})),
            )
        if benchmark["skipped"]:
            shown.add_row(Text(f"  {benchmark['skipped']}", style="yellow"))
    console.print(shown)
    console.print()
    for benchmark in record["benchmarks"]:
        if benchmark.get("stages"):
            _stages(benchmark, console)
    machine = record["machine"]
    for line in (
        "time and squared error are ratios, baseline / ours: above 1, ours is better",
        "load: time to load a program; peak: our peak memory as a multiple of the weights; "
        "net: peak without what running the eager model takes beyond its weights",
        f"{machine['processor']}, cores: {machine['cores']}, torch threads: "
        f"{machine['torch_threads']}, load average before the start: {machine['load_average']:.1f}",
    ):
        console.print(Text(line, style="dim"), soft_wrap=True)


def _stages(benchmark: Mapping[str, Any], console: Console) -> None:
    """Prints peak memory by step and model."""
    rows = {(row["step"], row["model"]): row for row in benchmark["stages"]}
    models = sorted({model for _, model in rows}, key=lambda m: _weights(benchmark["stages"], m))
    shown = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    shown.add_column(f"{benchmark['title']}, MiB")
    for model in models:
        shown.add_column(model, justify="right", no_wrap=True)
    for step in sorted({step for step, _ in rows}):
        cells = (rows.get((step, model)) for model in models)
        shown.add_row(f"  {step}", *(_stage(row) if row else "" for row in cells))
    console.print(shown)
    legend = "lowest to highest peak of a step's jobs / the request of its rule; red: the request "
    legend += "is too low, or more than twice what a job took"
    console.print(Text(legend, style="dim"), soft_wrap=True)
    console.print()


def _weights(stages: Iterable[Mapping[str, Any]], model: str) -> float:
    return max(row["weights_mb"] for row in stages if row["model"] == model)


def _stage(row: Mapping[str, Any]) -> Text:
    peaks = sorted({round(row["lowest_peak_mb"]), round(row["highest_peak_mb"])})
    text = f"{'–'.join(map(str, peaks))} / {row['declared_mb']}"
    return Text(text, style="" if row["within"] else "bold red")


def _footprint(facts: Mapping[str, Any]) -> tuple[str, str, str]:
    load = facts.get("load_s")
    peaks = (facts.get("peak_ratio"), facts.get("net_peak_ratio"))
    peak, net = ("" if value is None else f"{value:.3g}×" for value in peaks)
    return "" if load is None else seconds(load), peak, net


def _sameness(facts: Mapping[str, Any]) -> Text:
    """Whether all facts named ``same_…`` hold, or how many artifacts are identical.

    Artifacts for which upstream is reproducible must not differ.
    """
    if facts.get("reproducible_but_different"):
        return Text("DIFFERENT", style="bold red")
    if "identical" in facts:
        return Text(f"{facts['identical']} identical")
    found = [value for name, value in facts.items() if name.startswith("same_")]
    if not found:
        return Text()
    return Text("same") if all(found) else Text("DIFFERENT", style="bold red")


def picture(record: Mapping[str, Any], path: Path) -> None:
    """Draws every ratio as a bar that starts at 1, to the right if ours is better; a PNG."""
    import altair as alt

    rows = [
        {
            "case": f"{benchmark['title']}: {row['case']}",
            "quantity": _NAMES[name],
            "ratio": value,
            "one": 1,
            "label": ratio(value),
        }
        for benchmark in record["benchmarks"]
        for row in benchmark["comparisons"]
        for name, value in row["ratios"].items()
    ]
    panels = []
    for name in _NAMES.values():
        drawn = [row for row in rows if row["quantity"] == name]
        if not drawn:
            continue
        values = [row["ratio"] for row in drawn]
        # On the log scale, twice and half have bars of equal length. A panel spans at least from
        # half to twice, so that small differences look small.
        span = [min(0.5, 0.6 * min(values)), max(2, 2.5 * max(values))]
        scale = alt.Scale(type="log", domain=span, nice=False)
        axis = alt.Axis(format="~g", tickCount=6, grid=True)
        base = alt.Chart(alt.Data(values=drawn)).encode(
            y=alt.Y("case:N", sort=None, title=None, axis=alt.Axis(labelLimit=400)),
            x=alt.X("ratio:Q", scale=scale, axis=axis, title="baseline / ours, log scale"),
        )
        better = alt.condition("datum.ratio >= 1", alt.value("#2fa38c"), alt.value("#e4593f"))
        bars = base.mark_bar(height=12).encode(x2="one:Q", color=better)
        right = base.transform_filter("datum.ratio >= 1").mark_text(align="left", dx=4)
        left = base.transform_filter("datum.ratio < 1").mark_text(align="right", dx=-4)
        sides = [(right, any(v >= 1 for v in values)), (left, any(v < 1 for v in values))]
        labels = [text.encode(text="label:N") for text, used in sides if used]
        rule = alt.Chart(alt.Data(values=[{"one": 1}])).mark_rule().encode(x="one:Q")
        title = f"{name}: bars to the right, ours is better"
        panels.append(alt.layer(bars, *labels, rule).properties(width=420, title=title))
    with replacing(path) as temporary:
        alt.vconcat(*panels).save(str(temporary), format="png", scale_factor=2)
