"""Renders the HTML report: one self-contained file that needs no network and no server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pte_foundry.report import charts, choice, details, interface, text
from pte_foundry.report.failures import failures
from pte_foundry.report.schema import Summary, SummaryRecord
from pte_foundry.validate.divergence_schema import DivergenceReport
from pte_foundry.validate.gates import warnings

ASSETS = Path(__file__).with_name("page_assets")

_COLUMNS = (
    # label, kind, whether there is a filter menu for it
    ("Model", "text", True),
    ("Recipe", "text", True),
    ("Target", "text", False),
    ("OS", "text", True),
    ("Units", "text", True),
    ("Size", "number", False),
    ("Smaller", "number", False),
    ("SQNR dB", "number", False),
    ("Worst dB", "number", False),
    ("Agreement", "number", False),
    ("Task metrics", "task", False),
    ("Δ task", "number", False),
    ("Status", "verdict", True),
)

_ERROR = {"title": "Why it failed", "kind": "facts", "wide": True}


def render(
    summary: Summary,
    manifest: Mapping[str, Any] | None = None,
    divergence: Mapping[str, DivergenceReport] | None = None,
    models: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """Returns the page as HTML.

    Args:
        summary: the summary of all builds.
        manifest: the manifest, for digests of the inputs and versions of the tools.
        divergence: path of an artifact to its divergence report; None: without such reports.
        models: ``description`` and ``license`` of models, as far as known.
    """
    builds = summary["builds"]
    figures = _figures(builds, models or {})
    choice_figures, choices = _choices(builds)
    return filled(
        "page.html.j2",
        totals=summary["totals"],
        warnings=sum(warnings(build["hazards"]) for build in builds),
        engines=text.engines(builds),
        synthetic=text.synthetic(builds),
        failures=failures(builds),
        missed=_missed(builds),
        choices=choices,
        choice_figures=choice_figures,
        laxer=text.laxer_gates(builds),
        figures=figures,
        plots=[plot["spec"] for figure in figures for plot in figure["plots"]],
        versions=sorted(manifest["environment"]["versions"].items()) if manifest else [],
        data=_data(builds, manifest, divergence),
        vega=_script(_vega()),
        script=_script((ASSETS / "page.js").read_text(encoding="utf-8")),
    )


def filled(template: str, **values: Any) -> str:
    """Returns a template of a page with its values, and with the style of all pages."""
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["size"] = text.size
    # No blanks in the JSON: a thousand builds are megabytes.
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False}
    style = Markup((ASSETS / "page.css").read_text(encoding="utf-8"))
    return environment.get_template(template).render(style=style, **values)


def _script(code: str) -> Markup:
    # Only "</script" ends a script element; in a JavaScript string, "\/" is the same as "/".
    return Markup(code.replace("</script", "<\\/script"))


def _vega() -> str:
    """Vega, Vega-Lite and vega-embed as one module, in the version that altair supports."""
    import altair
    import vl_convert

    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return vl_convert.javascript_bundle(vl_version=version)


def _missed(builds: Sequence[SummaryRecord]) -> list[dict[str, Any]]:
    missed = [
        {
            "index": index,
            "build": text.build_name(build["build"]),
            "text": text.failure(gate, build["hazards"]),
            "status": text.gate_status(gate),
        }
        for index, build in enumerate(builds)
        for gate in build["gates"]
        if not gate["passed"]
    ]
    return sorted(missed, key=lambda gate: gate["status"])  # "fail" before "warn"


_FIGURES = ("Size", "Smaller", "SQNR", "Task metrics")


def _choices(builds: Sequence[SummaryRecord]) -> tuple[list[str], list[dict[str, Any]]]:
    """The titles of the figures of builds to ship that any of them has, and the builds."""
    rows, smaller = [], choice.times_smaller(builds)
    for one in choice.choices(builds):
        build = None if one.index is None else builds[one.index]
        row = {"model": one.model, "os": one.minimum_os, "units": one.compute_units}
        row |= {"index": one.index, "reason": one.reason, "cells": []}
        if build is not None:
            row["build"] = f"{build['build']['recipe']}/{build['build']['target']}"
            row["cells"] = [
                text.size(build["bytes"]),
                text.factor(smaller[one.index]),
                text.metric("sqnr_db", build["metrics"]["sqnr_db"]),
                text.task(build["metrics"]),
            ]
        rows.append(row)
    cells = [row["cells"] for row in rows if row["cells"]]
    kept = [i for i in range(len(_FIGURES)) if any(some[i] != text.MISSING for some in cells)]
    for row in rows:
        row["cells"] = [row["cells"][i] for i in kept if row["cells"]]
    return [_FIGURES[i] for i in kept], rows


def _figures(
    builds: Sequence[SummaryRecord], models: Mapping[str, Mapping[str, str]]
) -> list[dict[str, Any]]:
    colour_of = charts.colours(builds)
    figures = []
    for model in dict.fromkeys(build["build"]["model"] for build in builds):
        own = [(i, b) for i, b in enumerate(builds) if b["build"]["model"] == model]
        schemes = sorted({charts.scheme_of(build) for _, build in own})
        axes = [charts.SQNR, charts.task_axis([build for _, build in own])]
        specs = [(axis, charts.size_against(axis, own, colour_of)) for axis in axes if axis]
        figures.append(
            {
                "model": model,
                "about": models.get(model, {}),
                "count": len(own),
                "unmeasured": sum(b["metrics"]["sqnr_db"] is None for _, b in own),
                "legend": [(scheme, colour_of[scheme]) for scheme in schemes],
                "plots": [{"title": a.title, "spec": spec} for a, spec in specs if spec],
            }
        )
    return figures


def _data(
    builds: Sequence[SummaryRecord],
    manifest: Mapping[str, Any] | None,
    divergence: Mapping[str, DivergenceReport] | None,
) -> dict[str, Any]:
    rows = list(map(_row, builds, choice.times_smaller(builds)))
    pinned = set(choice.baselines(builds).values())
    errors = [_ERROR] if any(build.get("error") for build in builds) else []
    layers = () if divergence is None else details.divergence_frames()
    # Columns that are empty for all builds are left out.
    kept = [i for i in range(len(_COLUMNS)) if any(row[i][0] is not None for row in rows)]
    return {
        "columns": [
            {"label": label, "kind": kind, "menu": menu}
            for label, kind, menu in (_COLUMNS[i] for i in kept)
        ],
        "frames": [*errors, *interface.FRAMES, *_insert_second(details.FRAMES, layers)],
        "builds": [
            {
                "name": text.build_name(build["build"]),
                "baseline": index in pinned,
                "cells": [row[i] for i in kept],
                "details": [_error(build)] * len(errors) + _details(build, manifest, divergence),
            }
            for index, (build, row) in enumerate(zip(builds, rows, strict=True))
        ],
    }


def _details(
    build: SummaryRecord,
    manifest: Mapping[str, Any] | None,
    divergence: Mapping[str, DivergenceReport] | None,
) -> list[list | None]:
    """A build's content of all frames but the error; None for a frame that it does not have."""
    count = 0 if divergence is None else len(details.divergence_frames())
    if build["artifact"] is None:
        return [None] * (len(interface.FRAMES) + len(details.FRAMES) + count)
    report = (divergence or {}).get(build["paths"]["pte"])
    layers = details.divergence_contents(report) if report else [None] * count
    rest = _insert_second(details.contents(build, _inputs(build, manifest)), layers)
    return [*interface.contents(build), *rest]


def _error(build: SummaryRecord) -> list[list[str]] | None:
    error = build.get("error")
    if not error:
        return None
    facts = {"step": error["stage"], "message": error["message"], "log": error["log"]}
    return [[name, value] for name, value in facts.items() if value]


def _insert_second(frames: Sequence[Any], layers: Sequence[Any]) -> list[Any]:
    """The loss by stage comes first, then the loss by layer, then the rest."""
    return [frames[0], *layers, *frames[1:]]


def _inputs(build: SummaryRecord, manifest: Mapping[str, Any] | None) -> dict[str, str]:
    """Name to sha256 of the inputs of a build."""
    if not manifest or build["paths"]["pte"] not in manifest["artifacts"]:
        return {}
    files = manifest["models"][build["build"]["model"]]["files"]
    return {
        "all inputs": manifest["artifacts"][build["paths"]["pte"]]["inputs"],
        "lock file": manifest["environment"]["lock_sha256"],
        **{f"model's {role}": file["sha256"] for role, file in sorted(files.items())},
    }


def _row(build: SummaryRecord, smaller: float | None) -> list[list[Any]]:
    """For each of ``_COLUMNS``, a pair of the value to sort by and the text to show."""
    metrics = build["metrics"]
    worst = text.worst_sqnr_db(metrics)
    sqnr, agreement = metrics["sqnr_db"], metrics.get("top1_agreement")
    own = text.task_metrics(metrics)
    values = [v for v in own.values() if v is not None]
    change = next(
        (name for name, v in own.items() if name.endswith("_change") and v is not None), ""
    )
    status = text.build_status(build)
    words = [
        *(build["build"][part] for part in ("model", "recipe", "target")),
        build["minimum_os"],
        build["target_details"].get("compute_units"),
    ]
    return [
        *([word, word or text.MISSING] for word in words),
        [build["bytes"], text.size(build["bytes"])],
        [smaller, text.factor(smaller)],
        [sqnr, text.decibel(sqnr)],
        [worst, text.decibel(worst)],
        [agreement, text.percent(agreement)],
        [values[0] if values else None, text.task(metrics, changes=change == "")],
        [own.get(change), text.metric(change, own.get(change))],
        [status, status],
    ]
