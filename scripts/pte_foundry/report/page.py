"""Puts the page together: one file that needs no network and no server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pte_foundry.report import charts, details, text

ASSETS = Path(__file__).with_name("page_assets")

_COLUMNS = (
    # label, kind, whether a menu filters by it
    ("Model", "text", True),
    ("Recipe", "text", True),
    ("Target", "text", False),
    ("OS", "text", True),
    ("Units", "text", True),
    ("Size", "number", False),
    ("SQNR dB", "number", False),
    ("Worst dB", "number", False),
    ("Agreement", "number", False),
    ("Task metrics", "task", False),
    ("Status", "verdict", True),
)


def render(
    summary: Mapping[str, Any],
    manifest: Mapping[str, Any] | None = None,
    divergence: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """The page as HTML.

    Args:
        summary: what ``pte_foundry.steps.summary`` wrote.
        manifest: what ``pte_foundry.steps.manifest`` wrote, for the digests and versions behind the builds.
        divergence: what ``pte_foundry.steps.diverge`` wrote of every build, by the path of its artifact.
    """
    builds = summary["builds"]
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["size"] = text.size
    # A thousand builds are megabytes of JSON; every blank counts.
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False}
    return environment.get_template("page.html.j2").render(
        totals=summary["totals"],
        engines=text.engines(builds),
        failures=_failures(builds),
        figures=_figures(builds),
        versions=sorted(manifest["environment"]["versions"].items()) if manifest else [],
        data=_data(builds, manifest, divergence or {}),
        style=Markup((ASSETS / "page.css").read_text(encoding="utf-8")),
        vega=_script(_vega()),
        script=_script((ASSETS / "page.js").read_text(encoding="utf-8")),
    )


def _script(code: str) -> Markup:
    # Inside a script element only this ends it; in JavaScript strings the two are the same.
    return Markup(code.replace("</script", "<\\/script"))


def _vega() -> str:
    """Vega, Vega-Lite and vega-embed as one module, of the version that altair writes for."""
    import altair
    import vl_convert

    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return vl_convert.javascript_bundle(vl_version=version)


def _failures(builds: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    failures = [
        {
            "index": index,
            "build": text.build_name(build["build"]),
            "text": text.failure(gate),
            "status": "warn" if gate.get("on_fail") == "warn" else "fail",
        }
        for index, build in enumerate(builds)
        for gate in build["gates"]
        if not gate["passed"]
    ]
    return sorted(failures, key=lambda failure: failure["status"])  # "fail" before "warn"


def _figures(builds: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    colour_of = charts.colours(builds)
    figures = []
    for model in dict.fromkeys(build["build"]["model"] for build in builds):
        own = [(i, b) for i, b in enumerate(builds) if b["build"]["model"] == model]
        schemes = sorted({charts.scheme_of(build) for _, build in own})
        figures.append(
            {
                "model": model,
                "count": len(own),
                "unmeasured": sum(b["metrics"].get("sqnr_db") is None for _, b in own),
                "legend": [(scheme, colour_of[scheme]) for scheme in schemes],
                "spec": charts.size_against_sqnr(own, colour_of),
            }
        )
    return figures


def _data(
    builds: Sequence[Mapping[str, Any]],
    manifest: Mapping[str, Any] | None,
    divergence: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    rows = [_row(build) for build in builds]
    # A column that is empty for every build tells nothing.
    kept = [i for i in range(len(_COLUMNS)) if any(row[i][0] is not None for row in rows)]
    return {
        "columns": [
            {"label": label, "kind": kind, "menu": menu}
            for label, kind, menu in (_COLUMNS[i] for i in kept)
        ],
        "frames": _after_first(details.FRAMES, details.divergence_frames() if divergence else ()),
        "builds": [
            {
                "name": text.build_name(build["build"]),
                "cells": [row[i] for i in kept],
                "details": _after_first(
                    details.contents(build, _inputs(build, manifest)),
                    _divergence(divergence, build["paths"]["pte"]),
                ),
            }
            for build, row in zip(builds, rows, strict=True)
        ],
    }


def _after_first(usual: Sequence[Any], more: Sequence[Any]) -> list[Any]:
    """Stages of the loss come first, then its layers, then the rest."""
    return [usual[0], *more, *usual[1:]]


def _divergence(divergence: Mapping[str, Mapping[str, Any]], pte: str) -> list[list]:
    return details.divergence_contents(divergence[pte]) if divergence else []


def _inputs(build: Mapping[str, Any], manifest: Mapping[str, Any] | None) -> dict[str, str]:
    """The digests of what a build was made from, by name."""
    if not manifest:
        return {}
    files = manifest["models"][build["build"]["model"]]["files"]
    return {
        "all inputs": manifest["artifacts"][build["paths"]["pte"]]["inputs"],
        "lock file": manifest["environment"]["lock_sha256"],
        **{f"model's {role}": file["sha256"] for role, file in sorted(files.items())},
    }


def _row(build: Mapping[str, Any]) -> list[list[Any]]:
    """A pair of what to sort by and what to show, for each of ``_COLUMNS``."""
    metrics = build["metrics"]
    worst = (metrics.get("worst") or {}).get("sqnr_db")
    sqnr, agreement = metrics.get("sqnr_db"), metrics.get("top1_agreement")
    own = [v for v in text.task_metrics(metrics).values() if v is not None]
    status = build["status"]
    if status == "pass" and not all(gate["passed"] for gate in build["gates"]):
        status = "warn"
    words = [
        *(build["build"][part] for part in ("model", "recipe", "target")),
        build["minimum_os"],
        build["target_details"].get("compute_units"),
    ]
    return [
        *([word, word or text.MISSING] for word in words),
        [build["bytes"], text.size(build["bytes"])],
        [sqnr, text.decibel(sqnr)],
        [worst, text.decibel(worst)],
        [agreement, text.percent(agreement)],
        [own[0] if own else None, text.task(metrics)],
        [status, status],
    ]
