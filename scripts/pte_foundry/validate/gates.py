"""Gates: thresholds that a validation must meet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pte_foundry.errors import ConfigError
from pte_foundry.validate.hazards_schema import WARNINGS, Hazard
from pte_foundry.validate.metrics_schema import OutputMetrics
from pte_foundry.validate.schema import GateValues, GateVerdict, LaxerGate, Measurement, Status

_LIMITS = {"min": ">=", "max": "<="}
_ON_FAIL = ("fail", "warn")
_NO_NUMBERS = ("worst", "worst_output")
_FLOATING = ("sqnr_db", "cosine", "worst_sqnr_db")
_ABSENT = {
    **dict.fromkeys(_FLOATING, "the model has no floating-point outputs"),
    "equal_fraction": "the model has no integer or boolean outputs",
    "top1_agreement": "no output is known to have a class axis; return integer labels from "
    "evaluation(), or top1_agreement from agreement()",
}
"""Why a metric may not apply to a model."""


def gate_values(measured: Measurement) -> GateValues:
    """Returns the values that gates can limit, by the metric names of the config.

    Metrics that do not apply to the model's outputs are left out; ``None`` stands for a metric that
    does, but is not a finite number.
    """
    metrics = measured["metrics"]
    worst = metrics.get("worst")
    values = {
        **{name: value for name, value in metrics.items() if name not in _NO_NUMBERS},
        "worst_sqnr_db": worst["sqnr_db"] if worst else None,
        "bytes": measured["artifact"]["bytes"],
        "delegated_fraction": measured["artifact"]["delegated_fraction"],
        "hazards": damage(measured["hazards"]),
    }
    missing = [] if values.get("top1_agreement") is not None else ["top1_agreement"]
    if outputs := measured.get("outputs"):
        floating = [is_floating(output) for output in outputs]
        missing += [] if any(floating) else _FLOATING
        missing += ["equal_fraction"] if all(floating) else []
    return {name: value for name, value in values.items() if name not in missing}


def is_floating(output: OutputMetrics) -> bool:
    """Whether an output has an SQNR (else a share of equal values), given its metrics."""
    return output.get("dtype", "float").startswith(("float", "bfloat", "complex"))


def judge_measurement(
    measured: Measurement, gates: Mapping[str, Mapping[str, Any]]
) -> tuple[list[GateVerdict], Status]:
    """Compares a measurement with its gates; see :func:`judge`.

    If the measurement has an error, the status is ``fail``, and gates of metrics that could not be
    measured for that reason have no verdict: the error tells why.
    """
    values, outputs = gate_values(measured), measured.get("outputs", [])
    if "error" not in measured:
        return judge(values, gates, outputs)
    known = {name for name, value in values.items() if value is not None}
    verdicts, _ = judge(values, {m: gate for m, gate in gates.items() if m in known}, outputs)
    return verdicts, "fail"


def damage(hazards: Iterable[Hazard]) -> int:
    """Counts the executions in which damage arises: nan, inf, an fp16 overflow, a lost output."""
    return sum(hazard["count"] for hazard in hazards if hazard["kind"] not in WARNINGS)


def warnings(hazards: Iterable[Hazard]) -> int:
    """Counts the executions in which a value comes near to an fp16 overflow."""
    return sum(hazard["count"] for hazard in hazards if hazard["kind"] in WARNINGS)


def judge(
    values: Mapping[str, Any],
    gates: Mapping[str, Mapping[str, Any]],
    outputs: Sequence[OutputMetrics] = (),
) -> tuple[list[GateVerdict], Status]:
    """Compares measured values with their limits.

    Args:
        values: measured values by metric name, each in the metric's own unit
            (:class:`pte_foundry.validate.schema.GateValues`).
        gates: ``{metric: {"min": number, "max": number, "on_fail": "fail" | "warn", "optional":
            bool}}``. A gate has one limit or both, limits are inclusive, and ``on_fail`` defaults
            to ``"fail"``. An optional gate applies only if its metric is among ``values``.
        outputs: the metrics of each output; a verdict names the one where its metric is worst.

    Returns:
        One verdict for each limit, in the order of ``gates``, and the status: ``"fail"`` if a
        limit is missed whose ``on_fail`` is ``"fail"``, else ``"pass"``. A value that was not
        measured, or is not a finite number, misses every limit, and the verdict has a ``reason``.

    Raises:
        ConfigError: gates without a limit, or with an invalid limit or ``on_fail``; lists all.
    """
    _check(gates)
    verdicts = [
        _verdict(metric, sign, gate[side], values, gate.get("on_fail") or "fail", outputs)
        for metric, gate in gates.items()
        if metric in values or not gate.get("optional")
        for side, sign in _LIMITS.items()
        if gate.get(side) is not None
    ]
    failed = any(not v["passed"] and v["on_fail"] == "fail" for v in verdicts)
    return verdicts, "fail" if failed else "pass"


def laxer(
    gates: Mapping[str, Mapping[str, Any]], defaults: Mapping[str, Mapping[str, Any]]
) -> list[LaxerGate]:
    """Returns the gates that are laxer than the default ones: lower, removed, or only warning.

    Args:
        gates: the gates of a build; see :func:`judge`.
        defaults: those that it has if the config sets none.
    """
    return [
        {"metric": metric, "default": limits(default), "limit": limits(gate) if gate else None}
        for metric, default in sorted(defaults.items())
        for gate in [gates.get(metric)]
        if gate is None or _is_laxer(gate, default)
    ]


def _is_laxer(gate: Mapping[str, Any], default: Mapping[str, Any]) -> bool:
    low, high = gate.get("min"), gate.get("max")
    return (
        (default.get("min") is not None and (low is None or low < default["min"]))
        or (default.get("max") is not None and (high is None or high > default["max"]))
        or (gate.get("on_fail") == "warn" and default.get("on_fail") != "warn")
    )


def limits(gate: Mapping[str, Any]) -> str:
    """Formats the limits of a gate: ``>= 12``, ``>= 1 and <= 2`` or ``<= 0 (only warns)``."""
    parts = [
        _limit(sign, gate[side]) for side, sign in _LIMITS.items() if gate.get(side) is not None
    ]
    return " and ".join(parts) + (" (only warns)" if gate.get("on_fail") == "warn" else "")


def _limit(sign: str, value: float) -> str:
    return f"{sign} {value:.12g}"


def _verdict(
    metric: str,
    sign: str,
    limit: float,
    values: Mapping[str, Any],
    on_fail: str,
    outputs: Sequence[OutputMetrics],
) -> GateVerdict:
    value = values.get(metric)
    verdict = {"metric": metric, "limit": _limit(sign, limit), "value": value}
    decisive = _decisive(metric, value, outputs)
    if decisive and len(outputs) > 1:
        verdict["output"] = decisive["name"]
    if _is_number(value):
        passed = value >= limit if sign == ">=" else value <= limit
        return verdict | {"passed": bool(passed), "on_fail": on_fail}
    # JSON has no nan and no infinity, so the value is null and the reason contains what it was.
    if metric not in values:
        why = f": {_ABSENT[metric]}" if metric in _ABSENT else ""
        reason = f"{metric} was not measured{why}"
    else:
        reason = f"{metric} is {'null' if value is None else value}, not a finite number"
        if decisive and "problem" in decisive:
            reason = f"{metric} is null, as {decisive['problem']}"
    return verdict | {"value": None, "passed": False, "on_fail": on_fail, "reason": reason}


def _decisive(metric: str, value: Any, outputs: Sequence[OutputMetrics]) -> OutputMetrics | None:
    """The first output whose metric is the value of all of them, if the metric is of outputs."""
    floating = [output for output in outputs if is_floating(output)]
    exact = [output for output in outputs if not is_floating(output)]
    if metric == "worst_sqnr_db":
        found = [o for o in floating if (o.get("worst") or {}).get("sqnr_db") == value]
    else:
        judged = {
            "sqnr_db": floating,
            "cosine": floating,
            "max_abs_error": floating or exact,
            "equal_fraction": exact,
        }
        found = [output for output in judged.get(metric, ()) if output.get(metric) == value]
    return found[0] if found else None


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
