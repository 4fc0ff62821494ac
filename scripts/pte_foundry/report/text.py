"""Formats numbers as text with units, for the table, the HTML report and the commands.

A missing value is an en dash, never an empty cell; a minus is U+2212.
"""

from __future__ import annotations

from collections.abc import Sequence

from pte_foundry.report.schema import DeviceResult, SummaryRecord
from pte_foundry.validate.divergence_schema import ValueRange
from pte_foundry.validate.hazards_schema import ISSUE_EFFECTS, WARNINGS, Hazard
from pte_foundry.validate.metrics_schema import COMMON_METRICS, SQNR_CAP_DB, Metrics, OutputMetrics
from pte_foundry.validate.schema import Build, GateVerdict

MISSING = "–"
EXACT = "exact"

_UNITS = ("B", "kB", "MB", "GB", "TB")


def size(count: float | None) -> str:
    """Formats a number of bytes in decimal units: ``3.55 MB`` is 3,550,000 bytes."""
    if count is None:
        return MISSING
    value, unit = float(count), 0
    while value >= 999.5 and unit + 1 < len(_UNITS):
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} B" if not unit else f"{value:.3g} {_UNITS[unit]}"


def factor(value: float | None) -> str:
    """Formats how many times smaller something is: ``3.9 ×``."""
    return MISSING if value is None else f"{value:.1f} ×" if value < 100 else f"{value:.0f} ×"


def number(value: float | None, digits: int = 3) -> str:
    """Formats a number with ``digits`` significant digits, a whole number with all of them."""
    if value is None:
        return MISSING
    if float(value).is_integer() and abs(value) < 1e9:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.{digits}g}".replace("-", "−")


def decibel(value: float | None) -> str:
    """Formats a number of decibels, without the unit: ``−3.5``."""
    return MISSING if value is None else f"{value:.1f}".replace("-", "−")


def noise(value: float | None) -> str:
    """Formats a layer's SQNR in dB: ``−∞`` for infinite noise (``None``), ``exact`` for none."""
    if value is None:
        return "−∞"
    return EXACT if value >= SQNR_CAP_DB else decibel(value)


def interval(values: ValueRange) -> str:
    """Formats a range of values: ``−0.5 … 3.2``, or ``−1 … 2, 7 not finite``."""
    low, high, non_finite = values["low"], values["high"], values["non_finite"]
    span = MISSING if low is None else f"{number(low)} … {number(high)}"
    return f"{span}, {non_finite} not finite" if non_finite else span


def layer(operators: Sequence[str], method: str | None = None) -> str:
    """Joins the operators of a layer to one line, shortened to the first and the last."""
    if method:
        return f"{method}: {layer(operators)}"
    if len(operators) > 3:
        return f"{operators[0]} + … + {operators[-1]} ({len(operators)} operators)"
    return " + ".join(operators)


def percent(share: float | None) -> str:
    """Formats a share from 0 to 1, rounded: ``97.2 %``.

    A share just below 1 has up to three decimals, so that few errors among many are visible.
    """
    if share is None:
        return MISSING
    rounded = (f"{100 * share:.{digits}f}" for digits in (1, 2, 3))
    shown = next((text for text in rounded if share >= 1 or float(text) < 100), "100.0")
    return f"{shown} %".replace("-", "−")


def is_share(name: str) -> bool:
    """Whether a metric is a share from 0 to 1, by its name."""
    ends = ("_agreement", "_fraction", "accuracy", "precision", "recall")
    return name.endswith(ends) or name.startswith("top")


def metric(name: str, value: float | None) -> str:
    """Formats a metric with the unit that its name implies.

    ``*_db`` are decibels, ``*bytes`` sizes, and ``*_change`` signed differences; for shares from 0
    to 1 see :func:`is_share`.
    """
    if value is None:
        return MISSING
    if name.endswith("_change"):
        sign = "+" if value > 0 else "−" if value < 0 else "±"
        if is_share(name.removesuffix("_change")):
            return f"{sign}{100 * abs(value):.1f} pp"
        return sign + number(abs(value))
    if name.endswith("_db"):
        return f"{decibel(value)} dB"
    if is_share(name):
        return percent(value)
    if name.endswith("bytes"):
        return size(value)
    return number(value)


def label(name: str) -> str:
    """Turns the name of a metric or a setting into words: ``top1_change`` to ``top1 change``."""
    return name.removesuffix("_db").replace("_", " ")


def task_metrics(metrics: Metrics) -> dict[str, float | None]:
    """Returns the metrics that only this model's task has, in their order."""
    return {name: value for name, value in metrics.items() if name not in COMMON_METRICS}


def task(metrics: Metrics, *, changes: bool = True) -> str:
    """Formats all task metrics in one line, each with its change: ``top1 97.2 % (−0.4 pp)``."""
    own = task_metrics(metrics)
    parts = []
    for name, value in own.items():
        if name.endswith("_change") and name.removesuffix("_change") in own:
            continue
        change = own.get(f"{name}_change")
        suffix = f" ({metric(f'{name}_change', change)})" if changes and change is not None else ""
        parts.append(f"{label(name)} {metric(name, value)}{suffix}")
    return ", ".join(parts) or MISSING


def cosine(value: float | None) -> str:
    """Formats a cosine similarity with six decimals."""
    return MISSING if value is None else f"{value:.6f}".replace("-", "−")


def worst_output(metrics: Metrics, outputs: Sequence[OutputMetrics]) -> str:
    """Returns the name of the worst output; ``–`` if there are not several."""
    return (metrics.get("worst_output") if len(outputs) > 1 else None) or MISSING


def worst_sqnr_db(metrics: Metrics) -> float | None:
    """Returns the SQNR of the worst sample in dB, ``None`` if it is not defined or not measured."""
    worst = metrics.get("worst")
    return worst["sqnr_db"] if worst else None


def margin(gate: GateVerdict) -> str:
    """Formats by how much a value meets its limit (``+3.2 dB``), or misses it (``−0.4 dB``)."""
    if gate["value"] is None:
        return MISSING
    sign, limit = gate["limit"].split()
    room = (gate["value"] - float(limit)) * (1 if sign == ">=" else -1)
    if is_share(gate["metric"]):
        amount = f"{100 * abs(room):.1f} pp"
    else:
        amount = metric(gate["metric"], abs(room))
    return f"{'+' if room >= 0 else '−'}{amount}" if room else "0"


def laxer_gates(builds: Sequence[SummaryRecord]) -> str:
    """Returns how many builds have gates that are laxer than the defaults; "" if none has."""
    lax = [build for build in builds if build.get("laxer_gates")]
    if not lax:
        return ""
    verb = "build has" if len(lax) == 1 else "builds have"
    return f"{len(lax)} {verb} gates that the config made laxer than the defaults"


def gate_status(gate: GateVerdict) -> str:
    """Returns ``pass``, ``warn`` or ``fail``."""
    return "pass" if gate["passed"] else gate.get("on_fail", "fail")


def build_status(build: SummaryRecord) -> str:
    """Returns ``pass``, ``warn`` (passed, but a gate that only warns is missed) or ``fail``."""
    if build["status"] == "fail":
        return "fail"
    return "pass" if all(gate["passed"] for gate in build["gates"]) else "warn"


def build_name(build: Build) -> str:
    """Returns ``model/recipe/target``."""
    return "/".join(build[part] for part in ("model", "recipe", "target"))


_NOISE = ("sqnr_db", "worst_sqnr_db", "cosine")


def failure(gate: GateVerdict, hazards: Sequence[Hazard] = ()) -> str:
    """Formats a missed gate: ``sqnr_db 12.1, required >= 15``.

    With several outputs it names the worst: ``output `scores`: 0.0 dB, required >= 45``. Of
    ``hazards``, those of the build, it names the first that damages a value, and of much noise the
    first value that is clipped.
    """
    measured = gate.get("reason") or f"{gate['metric']} {number(gate['value'], 4)}"
    damage = next((hazard for hazard in hazards if hazard["kind"] not in WARNINGS), None)
    if gate["metric"] == "hazards" and damage:
        measured += f" ({hazard_text(damage)})"
    if output := gate.get("output"):
        if gate["metric"] == "sqnr_db" and "reason" not in gate:
            measured = metric("sqnr_db", gate["value"])
        measured = f"output `{output}`: {measured}"
    clipped = next((hazard for hazard in hazards if hazard["kind"] == "clipped"), None)
    why = f" ({hazard_text(clipped)})" if clipped and gate["metric"] in _NOISE else ""
    return f"{measured}, required {gate['limit']}{why}"


def hazard_text(hazard: Hazard) -> str:
    """Formats a hazard: ``nan at aten.mul.Tensor @ mask: -3.4e+38 became -inf in fp16; use …``."""
    if output := hazard.get("output"):
        return ", ".join(filter(None, (f"{hazard['kind']}: `{output}`", hazard.get("cause"))))
    where = f"{hazard['kind']} at {hazard['torch_source'] or hazard['op']}"
    return ": ".join(filter(None, (where, hazard.get("constant") or hazard.get("cause"))))


def engines(builds: Sequence[SummaryRecord]) -> list[str]:
    """Returns one line for each device of the builds, with the engine that executed them."""
    lines = {}
    for build in builds:
        for device in build["devices"]:
            lines[device["name"]] = f"{device['name']} = {_engine(device)}"
    return list(lines.values())


def synthetic(builds: Sequence[SummaryRecord]) -> list[str]:
    """Returns lines that name the models without samples or weights of their own, if any."""
    samples, weights = set(), set()
    for build in builds:
        for what in build.get("synthetic") or ():
            (weights if what == "weights" else samples).add(build["build"]["model"])
    notes = {
        "Synthetic samples, not real data": samples,
        "Random weights, so default gates on quality only warn": weights,
    }
    return [f"{note}: {', '.join(sorted(models))}" for note, models in notes.items() if models]


def _engine(device: DeviceResult) -> str:
    if device["engine"] == "mil-reference":
        return "mil-reference interpreter of the shipped bytes, not an Apple device"
    return f"{device['engine']} ({device['kind']}, on {device['host']})"


def known_issues(builds: Sequence[SummaryRecord]) -> str:
    """Returns how many known device issues the builds match, and the worst effect; or ""."""
    effects = [issue["effect"] for build in builds for issue in build.get("known_issues") or []]
    affected = sum(bool(build.get("known_issues")) for build in builds)
    if not effects:
        return ""
    counts = ", ".join(
        f"{effects.count(effect)} {effect}" for effect in ISSUE_EFFECTS if effect in effects
    )
    return f"known device issues in {affected} of {len(builds)} builds: {counts} (see the page)"
