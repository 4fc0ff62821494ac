"""Which build to ship: for each model, OS and compute units, the smallest one that passes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pte_foundry.report import text
from pte_foundry.report.schema import SummaryRecord


@dataclass(frozen=True)
class Choice:
    """The build to ship to devices of one OS and one choice of compute units.

    Attributes:
        model: the model.
        minimum_os: the oldest OS that it must run on.
        compute_units: the compute units of its target.
        index: the build's place among all builds of the summary; None if none passes.
        reason: why this one.
    """

    model: str
    minimum_os: str
    compute_units: str
    index: int | None
    reason: str


def baselines(builds: Sequence[SummaryRecord]) -> dict[str, int]:
    """Returns for each model the index of its fp32 build, or of its fp16 build if it has none.

    Sizes are compared with it: the smallest one if there are several. Models without an
    uncompressed build are left out.
    """
    order = {"float32": 0, "float16": 1}
    found: dict[str, tuple[int, int, int]] = {}
    for index, build in enumerate(builds):
        rank = order.get(build["target_details"].get("compute_precision", ""))
        size, model = build["bytes"], build["build"]["model"]
        if build["scheme"] == "none" and rank is not None and size:
            one = (rank, size, index)
            found[model] = min(found.get(model, one), one)
    return {model: index for model, (_, _, index) in found.items()}


def times_smaller(builds: Sequence[SummaryRecord]) -> list[float | None]:
    """Returns how many times smaller each build is than its model's baseline; None if unknown."""
    found = baselines(builds)
    return [
        builds[found[model]]["bytes"] / size
        if (model := build["build"]["model"]) in found and (size := build["bytes"])
        else None
        for build in builds
    ]


def choices(builds: Sequence[SummaryRecord]) -> list[Choice]:
    """Returns the build to ship, for each model and each OS and compute units of its targets.

    A build for an older OS runs on a newer one too, so it is a candidate there.
    """
    groups: dict[tuple[str, str, str], None] = {}
    for build in builds:
        if place := _place(build):
            groups[build["build"]["model"], *place] = None
    ordered = sorted(groups, key=lambda group: (group[0], _version(group[1]), group[2]))
    return [_choice(builds, *group) for group in ordered]


def _choice(builds: Sequence[SummaryRecord], model: str, system: str, units: str) -> Choice:
    candidates = [
        index
        for index, build in enumerate(builds)
        if build["build"]["model"] == model and _runs(build, system, units)
    ]
    passing = [index for index in candidates if builds[index]["status"] == "pass"]
    if not passing:
        return Choice(model, system, units, None, f"none of {_builds(len(candidates))} passes")
    # Of equal sizes, the one that is closest to fp32.
    chosen = min(passing, key=lambda i: (builds[i]["bytes"], -(_sqnr(builds[i]) or 0), i))
    others = len(passing) - 1
    failed = len(candidates) - len(passing)
    reason = f"the smallest of {others + 1} that pass" if others else "the only one that passes"
    if not others and not failed:
        reason = "the only build"
    reasons = [reason, f"{failed} fail{'s' * (failed == 1)}" if failed else ""]
    if text.build_status(builds[chosen]) == "warn":
        reasons.append("misses a gate that only warns")
    return Choice(model, system, units, chosen, "; ".join(filter(None, reasons)))


def _sqnr(build: SummaryRecord) -> float | None:
    return build["metrics"].get("sqnr_db")


def _builds(count: int) -> str:
    return f"{count} build{'s' * (count != 1)}"


def _place(build: SummaryRecord) -> tuple[str, str] | None:
    system, units = build["minimum_os"], build["target_details"].get("compute_units")
    return (system, units) if system and units else None


def _runs(build: SummaryRecord, system: str, units: str) -> bool:
    place = _place(build)
    if place is None or place[1] != units:
        return False
    oldest, wanted = _version(place[0]), _version(system)
    return oldest[0] == wanted[0] and oldest <= wanted


def _version(system: str) -> tuple[str, tuple[int, ...]]:
    """``iOS17`` to ``("iOS", (17,))``."""
    name, *_ = re.split(r"[\d.]+", system, maxsplit=1)
    return name, tuple(map(int, re.findall(r"\d+", system)))
