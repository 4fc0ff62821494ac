"""Gates: thresholds that a validation must meet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pte_foundry.errors import ConfigError
from pte_foundry.validate.schema import (
    WARNINGS,
    GateValues,
    GateVerdict,
    Hazard,
    Measurement,
    Status,
)

_LIMITS = {"min": ">=", "max": "<="}
_ON_FAIL = ("fail", "warn")


def gate_values(measured: Measurement) -> GateValues:
    """Returns the values that gates can limit, by the metric names of the config."""
    metrics = measured["metrics"]
    return {
        **{name: value for name, value in metrics.items() if name != "worst"},
        "worst_sqnr_db": metrics["worst"]["sqnr_db"],
        "bytes": measured["artifact"]["bytes"],
        "delegated_fraction": measured["artifact"]["delegated_fraction"],
        "hazards": damage(measured["hazards"]),
    }


def damage(hazards: Iterable[Hazard]) -> int:
    """Counts the executions in which a damaged value arises: nan, inf or an fp16 overflow."""
    return sum(hazard["count"] for hazard in hazards if hazard["kind"] not in WARNINGS)


def warnings(hazards: Iterable[Hazard]) -> int:
    """Counts the executions in which a value comes near to an fp16 overflow."""
    return sum(hazard["count"] for hazard in hazards if hazard["kind"] in WARNINGS)


def judge(
    values: Mapping[str, Any], gates: Mapping[str, Mapping[str, Any]]
) -> tuple[list[GateVerdict], Status]:
    """Compares measured values with their limits.

    Args:
        values: measured values by metric name, each in the metric's own unit
            (:class:`pte_foundry.validate.schema.GateValues`).
        gates: ``{metric: {"min": number, "max": number, "on_fail": "fail" | "warn"}}``. A gate has
            one limit or both, limits are inclusive, and ``on_fail`` defaults to ``"fail"``.

    Returns:
        One verdict for each limit, in the order of ``gates``, and the status: ``"fail"`` if a
        limit is missed whose ``on_fail`` is ``"fail"``, else ``"pass"``. A value that was not
        measured, or is not a finite number, misses every limit, and the verdict has a ``reason``.

    Raises:
        ConfigError: gates without a limit, or with an invalid limit or ``on_fail``; lists all.
    """
    _check(gates)
    verdicts = [
        _verdict(metric, sign, gate[side], values, gate.get("on_fail") or "fail")
        for metric, gate in gates.items()
        for side, sign in _LIMITS.items()
        if gate.get(side) is not None
    ]
    failed = any(not v["passed"] and v["on_fail"] == "fail" for v in verdicts)
    return verdicts, "fail" if failed else "pass"


def _verdict(
    metric: str, sign: str, limit: float, values: Mapping[str, Any], on_fail: str
) -> GateVerdict:
    value = values.get(metric)
    verdict = {"metric": metric, "limit": f"{sign} {limit:.12g}", "value": value}
    if _is_number(value):
        passed = value >= limit if sign == ">=" else value <= limit
        return verdict | {"passed": bool(passed), "on_fail": on_fail}
    # JSON has no nan and no infinity, so the value is null and the reason contains what it was.
    if metric not in values:
        reason = f"{metric} was not measured"
    else:
        reason = f"{metric} is {'null' if value is None else value}, not a finite number"
    return verdict | {"value": None, "passed": False, "on_fail": on_fail, "reason": reason}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check(gates: Mapping[str, Mapping[str, Any]]) -> None:
    findings = []
    for metric, gate in gates.items():
        limits = [side for side in _LIMITS if gate.get(side) is not None]
        if not limits:
            findings.append(f"gate '{metric}' has no limit; set min, max or both.")
        findings += [
            f"gate '{metric}': {side} is {gate[side]!r}; expected a finite number."
            for side in limits
            if not _is_number(gate[side])
        ]
        if (gate.get("on_fail") or "fail") not in _ON_FAIL:
            findings.append(
                f"gate '{metric}': on_fail is {gate['on_fail']!r}; allowed: {', '.join(_ON_FAIL)}."
            )
    if findings:
        raise ConfigError("\n".join(findings))
