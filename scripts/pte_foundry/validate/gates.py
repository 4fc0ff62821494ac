"""Thresholds that a validation must meet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pte_foundry.errors import ConfigError

_LIMITS = {"min": ">=", "max": "<="}
_ON_FAIL = ("fail", "warn")


def judge(
    values: Mapping[str, Any], gates: Mapping[str, Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], str]:
    """Hold measured values against their limits.

    Args:
        values: what was measured, by metric name. Units are the metric's own.
        gates: ``{metric: {"min": number, "max": number, "on_fail": "fail" | "warn"}}``; a gate has
            one limit or both, limits are inclusive, and ``on_fail`` is "fail" unless given.

    Returns:
        One ``{"metric", "limit", "value", "passed", "on_fail"}`` per limit, in the order of
        ``gates``, with a ``"reason"`` where there was no number to judge: such a gate fails, since
        what was not measured was not met. And the status: "fail" if a gate failed whose
        ``on_fail`` is "fail", else "pass". A failed gate that only warns keeps ``passed: False``.

    Raises:
        ConfigError: gates without a limit, or with a limit or an ``on_fail`` that is not allowed;
            all of them in one message.
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
) -> dict[str, Any]:
    value = values.get(metric)
    verdict = {"metric": metric, "limit": f"{sign} {limit:.12g}", "value": value}
    if _is_number(value):
        passed = value >= limit if sign == ">=" else value <= limit
        return verdict | {"passed": bool(passed), "on_fail": on_fail}
    # nan and infinities do not go into JSON, so the value is null and the reason says what it was.
    if metric not in values:
        reason = f"{metric} was not measured"
    else:
        reason = f"{metric} has no finite value: it is {'null' if value is None else value}"
    return verdict | {"value": None, "passed": False, "on_fail": on_fail, "reason": reason}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check(gates: Mapping[str, Mapping[str, Any]]) -> None:
    findings = []
    for metric, gate in gates.items():
        limits = [side for side in _LIMITS if gate.get(side) is not None]
        if not limits:
            findings.append(f"gate '{metric}' has no limit: give it min, max or both.")
        findings += [
            f"gate '{metric}': {side} is {gate[side]!r}, but must be a finite number."
            for side in limits
            if not _is_number(gate[side])
        ]
        if (gate.get("on_fail") or "fail") not in _ON_FAIL:
            findings.append(
                f"gate '{metric}': on_fail is {gate['on_fail']!r}; allowed: {', '.join(_ON_FAIL)}."
            )
    if findings:
        raise ConfigError("\n".join(findings))
