"""Joins the validation reports of all builds into one summary, one record per build."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pte_foundry.errors import InputError

_REQUIRED = {
    "build": ("model", "recipe", "target"),
    "artifact": ("path", "sha256", "bytes"),
    "device": ("name", "kind", "engine", "host"),
    "metrics": (),
    "stages": (),
    "gates": None,
    "hazards": None,
    "samples": None,
    "latency_ms": None,
    "status": None,
}
_DEFAULT_DEVICE = "host"


def summarize(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Join validation reports.

    Args:
        reports: report path to its content (DESIGN, section 6). A build may have reports of
            several devices. ``scheme`` and ``target_details`` (``minimum_os``,
            ``compute_precision``, ``compute_units``) are carried through where a report has them.

    Returns:
        ``{"builds": [...], "totals": {...}}``, builds ordered by model, recipe and target. A
        build's metrics, stages, hazards and latency are of ``host``, else of the first device by
        name; ``devices`` holds those of every device. ``gates`` are of all devices, and the
        status is "fail" if it is so on any.

    Raises:
        InputError: reports that lack a key, that repeat a build and device, or that are of
            different bytes of one build; all findings in one message.
    """
    findings = [f for path, report in reports.items() for f in _missing(path, report)]
    if findings:
        raise InputError("\n".join(findings))
    grouped: dict[tuple[str, ...], dict[str, tuple[str, Mapping[str, Any]]]] = {}
    for path, report in sorted(reports.items()):
        key = tuple(report["build"][part] for part in _REQUIRED["build"])
        devices = grouped.setdefault(key, {})
        name = report["device"]["name"]
        if name in devices:
            findings.append(f"{path}: {'/'.join(key)} on {name} is already in {devices[name][0]}.")
        devices[name] = (path, report)
    for key, devices in grouped.items():
        if len({report["artifact"]["sha256"] for _, report in devices.values()}) > 1:
            findings.append(
                f"{'/'.join(key)}: its reports are of different bytes "
                f"({', '.join(path for path, _ in devices.values())}); validate them again."
            )
    if findings:
        raise InputError("\n".join(findings))
    builds = [_record(devices) for _, devices in sorted(grouped.items())]
    return {"builds": builds, "totals": _totals(builds)}


def _record(devices: dict[str, tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    first = _DEFAULT_DEVICE if _DEFAULT_DEVICE in devices else min(devices)
    order = [first, *sorted(devices.keys() - {first})]
    reports = [devices[name][1] for name in order]
    main = reports[0]
    details = main.get("target_details") or {}
    return {
        "build": main["build"],
        "scheme": main.get("scheme"),
        "minimum_os": details.get("minimum_os"),
        "target_details": details,
        "paths": {
            "pte": main["artifact"]["path"],
            "validation": {name: devices[name][0] for name in order},
        },
        "sha256": main["artifact"]["sha256"],
        "bytes": main["artifact"]["bytes"],
        "artifact": main["artifact"],
        "samples": main["samples"],
        "metrics": main["metrics"],
        "stages": main["stages"],
        "hazards": main["hazards"],
        "gates": [
            gate | {"device": name}
            for name, report in zip(order, reports, strict=True)
            for gate in report["gates"]
        ],
        "latency_ms": main["latency_ms"],
        "devices": [
            report["device"]
            | {key: report[key] for key in ("samples", "metrics", "latency_ms", "status")}
            for report in reports
        ],
        "status": "fail" if any(report["status"] == "fail" for report in reports) else "pass",
    }


def _totals(builds: list[dict[str, Any]]) -> dict[str, int]:
    failed = sum(build["status"] == "fail" for build in builds)
    return {
        "builds": len(builds),
        "passed": len(builds) - failed,
        "failed": failed,
        "warned": sum(
            build["status"] != "fail" and not all(gate["passed"] for gate in build["gates"])
            for build in builds
        ),
        "models": len({build["build"]["model"] for build in builds}),
        "bytes": sum(build["bytes"] for build in builds),
        "hazards": sum(len(build["hazards"]) for build in builds),
    }


def _missing(path: str, report: Any) -> list[str]:
    if not isinstance(report, Mapping):
        return [f"{path}: not a validation report, which is an object of {', '.join(_REQUIRED)}."]
    lacking = [key for key in _REQUIRED if key not in report]
    lacking += [
        f"{key}.{part}"
        for key, parts in _REQUIRED.items()
        for part in parts or ()
        if key in report and part not in (report[key] or {})
    ]
    return [f"{path}: lacks {', '.join(lacking)}; validate it again."] if lacking else []


def report_paths(builds: Mapping[str, Mapping[str, list[str]]], devices: list[str]) -> list[str]:
    """Where the validation reports of ``builds`` (targets by recipe by model) lie."""
    return [
        f"results/validation/{model}/{recipe}/{target}/{device}.json"
        for model, recipes in builds.items()
        for recipe, targets in recipes.items()
        for target in targets
        for device in devices
    ]
