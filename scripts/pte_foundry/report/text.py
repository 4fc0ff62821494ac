"""Numbers as people read them. Missing values are an en dash, never an empty cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COMMON_METRICS = ("sqnr_db", "cosine", "max_abs_error", "top1_agreement", "worst")
"""Measured for every model; whatever else stands in a report's metrics is the task's own."""

MISSING = "–"
EXACT = "exact"
EXACT_DB = 200.0
"""What ``pte_foundry.validate.metrics`` says of equal values."""

_UNITS = ("B", "kB", "MB", "GB", "TB")


def size(count: float | None) -> str:
    """Bytes in decimal units, as shops and file managers count: ``3.55 MB``."""
    if count is None:
        return MISSING
    value, unit = float(count), 0
    while value >= 999.5 and unit + 1 < len(_UNITS):
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} B" if not unit else f"{value:.3g} {_UNITS[unit]}"


def number(value: float | None, digits: int = 3) -> str:
    """``digits`` significant digits; whole numbers as they are."""
    if value is None:
        return MISSING
    if float(value).is_integer() and abs(value) < 1e9:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.{digits}g}".replace("-", "−")


def decibel(value: float | None) -> str:
    return MISSING if value is None else f"{value:.1f}".replace("-", "−")


def noise(value: float | None) -> str:
    """An SQNR in dB, where ``None`` stands for infinite noise and the cap for none at all."""
    if value is None:
        return "−∞"
    return EXACT if value >= EXACT_DB else decibel(value)


def interval(values: Mapping[str, Any]) -> str:
    """``−0.5 … 3.2``, and how many values are infinite or nan: ``−1 … 2, 7 not finite``."""
    low, high, broken = values["low"], values["high"], values["non_finite"]
    span = MISSING if low is None else f"{number(low)} … {number(high)}"
    return f"{span}, {broken} not finite" if broken else span


def layer(operators: Sequence[str]) -> str:
    """The operators of a layer in one line; of a long chain the ends."""
    if len(operators) > 3:
        return f"{operators[0]} + … + {operators[-1]} ({len(operators)} operators)"
    return " + ".join(operators)


def percent(share: float | None) -> str:
    """A share of one. Never rounded up to all: 100.0 % means every one."""
    if share is None:
        return MISSING
    return f"{min(100 * share, 99.9) if share < 1 else 100 * share:.1f} %"


def metric(name: str, value: float | None) -> str:
    """A metric with its unit, told from its name.

    ``*_db`` are decibels, ``*_agreement`` and ``top*`` shares of one, ``*bytes`` sizes, and
    ``*_change`` differences, which keep their sign.
    """
    if value is None:
        return MISSING
    if name.endswith("_change"):
        sign = "+" if value > 0 else "−" if value < 0 else "±"
        if name.startswith("top"):
            return f"{sign}{100 * abs(value):.1f} pp"
        return sign + number(abs(value))
    if name.endswith("_db"):
        return f"{decibel(value)} dB"
    if name.endswith(("_agreement", "_fraction")) or name.startswith("top"):
        return percent(value)
    if name.endswith("bytes"):
        return size(value)
    return number(value)


def label(name: str) -> str:
    """``top1_change`` as words: ``top1 change``."""
    return name.removesuffix("_db").replace("_", " ")


def task_metrics(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """The metrics that only this task has, in their order."""
    return {k: v for k, v in metrics.items() if k not in COMMON_METRICS}


def task(metrics: Mapping[str, Any]) -> str:
    """All task metrics in one line; a change stands behind what changed: ``top1 97.2 % (−0.4)``."""
    own = task_metrics(metrics)
    parts = []
    for name, value in own.items():
        if name.endswith("_change") and name.removesuffix("_change") in own:
            continue
        change = own.get(f"{name}_change")
        behind = f" ({metric(f'{name}_change', change)})" if change is not None else ""
        parts.append(f"{label(name)} {metric(name, value)}{behind}")
    return ", ".join(parts) or MISSING


def build_name(build: Mapping[str, str]) -> str:
    return "/".join(build[part] for part in ("model", "recipe", "target"))


def failure(gate: Mapping[str, Any]) -> str:
    """What a failed gate measured and what was asked: ``sqnr_db 12.1, asked >= 15``."""
    asked = f"asked {gate['limit']}"
    if gate.get("reason"):
        return f"{gate['reason']}, {asked}"
    return f"{gate['metric']} {number(gate['value'], 4)}, {asked}"


def engines(builds: list[Mapping[str, Any]]) -> list[str]:
    """What executed the builds, one line a device: the reader must know what a number is of."""
    lines = {}
    for build in builds:
        for device in build["devices"]:
            lines[device["name"]] = f"{device['name']} = {_engine(device)}"
    return list(lines.values())


def _engine(device: Mapping[str, Any]) -> str:
    if device["engine"] == "mil-reference":
        return "mil-reference interpreter of the shipped bytes, not an Apple device"
    return f"{device['engine']} ({device['kind']}, on {device['host']})"
