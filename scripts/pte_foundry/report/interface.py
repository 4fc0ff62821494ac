"""What an app developer needs of a build: the file, its methods, values and states, and code."""

from __future__ import annotations

from typing import Any

from pte_foundry.report import methods, snippets, taken, text
from pte_foundry.report.schema import SummaryRecord

FRAMES: tuple[dict[str, Any], ...] = (
    {"title": "Use it", "kind": "links", "wide": True},
    {
        "title": "Interface",
        "kind": "rows",
        "note": "1…8 is a range of sizes, n a size that varies. Core ML keeps states between calls "
        "in float16.",
        "head": ["", "name", "type", "shape"],
        "none": "Unknown.",
        "wide": True,
    },
    {
        "title": "Load it",
        "kind": "code",
        "none": "The inputs of this build are unknown, or of a type that apps cannot pass.",
        "wide": True,
        "fold": True,
    },
)


def contents(build: SummaryRecord) -> list[list]:
    """Returns a build's content for each of ``FRAMES``."""
    return [_links(build), _values(build), snippets.snippets(build)]


def _links(build: SummaryRecord) -> list[list[str]]:
    """Text and target of links, and a text beside each. They start from ``results/report``."""
    path = build["paths"]["pte"]
    names = (build["artifact"] or {}).get("methods") or ["forward"]
    units = build["target_details"].get("compute_units", text.MISSING)
    beside = f"{text.size(build['bytes'])}, {build['minimum_os']} or later, compute units {units}, "
    beside += f"method{'s' * (len(names) > 1)} {', '.join(names)}"
    target = "../" + path.removeprefix("results/")
    return [[path.rsplit("/", 1)[-1], target, beside]]


def _values(build: SummaryRecord) -> list[list[str]]:
    artifact = build["artifact"] or {}
    return [
        [
            f"{method['name']} {kind}".strip(),
            facts["name"],
            facts.get("dtype", text.MISSING),
            (kind == "input" and taken.sizes(artifact, method["name"], facts["name"]))
            or snippets.shown(facts.get("shape")),
        ]
        for method in methods.of(build)
        for kind, key in (("input", "inputs"), ("output", "outputs"))
        for facts in method[key]
    ] + taken.states(artifact)
