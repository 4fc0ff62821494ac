"""Aggregates the validation reports of all builds into one summary, one record per build."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pte_foundry.errors import InputError
from pte_foundry.report.schema import BuildError, Summary, SummaryRecord, Totals
from pte_foundry.validate.check import problems
from pte_foundry.validate.gates import damage
from pte_foundry.validate.schema import Build, Metrics, TargetDetails, ValidationReport

_MAIN_DEVICE = "host"

_Devices = dict[str, tuple[str, ValidationReport]]
"""The reports of one build with their paths, by device."""

_NULL: Metrics = {
    "sqnr_db": None,
    "cosine": None,
    "max_abs_error": None,
    "top1_agreement": None,
}


@dataclass(frozen=True)
class FailedBuild:
    """A build that lacks the validation report of at least one device.

    Attributes:
        build: its names.
        scheme: the recipe's compression scheme.
        target: the settings of the target that are shown.
        error: why the report is missing.
    """

    build: Build
    scheme: str
    target: TargetDetails
    error: BuildError


def summarize(reports: Mapping[str, Any], failed: Iterable[FailedBuild] = ()) -> Summary:
    """Aggregates validation reports.

    A build may have reports of several devices. Its metrics, stages, hazards and latency are those
    of the device ``host``, else of the first device by name.

    Args:
        reports: report path to its content (:class:`pte_foundry.validate.schema.ValidationReport`).
        failed: builds that lack a report. They fail, with what the reports of other devices have.

    Raises:
        InputError: malformed reports, several reports of one build and device, or reports of one
            build with different artifacts; all findings in one message.
    """
    findings = [
        f"{path}: {problem}; validate it again."
        for path, report in reports.items()
        for problem in problems(report)
    ]
    if findings:
        raise InputError("\n".join(findings))
    grouped: dict[tuple[str, str, str], _Devices] = {}
    for path, report in sorted(reports.items()):
        build, device = report["build"], report["device"]["name"]
        names = build["model"], build["recipe"], build["target"]
        devices = grouped.setdefault(names, {})
        if device in devices:
            findings.append(
                f"{path}: {'/'.join(names)} on {device} is already in {devices[device][0]}."
            )
        devices[device] = (path, report)
    findings += [
        f"{'/'.join(names)}: its reports are of different artifacts "
        f"({', '.join(path for path, _ in devices.values())}); validate them again."
        for names, devices in grouped.items()
        if len({report["artifact"]["sha256"] for _, report in devices.values()}) > 1
    ]
    if findings:
        raise InputError("\n".join(findings))
    records = {names: _record(devices) for names, devices in grouped.items()}
    for one in failed:
        names = one.build["model"], one.build["recipe"], one.build["target"]
        record = records.get(names) or _record_without_reports(one)
        records[names] = record | {"status": "fail", "error": one.error}
    builds = [records[names] for names in sorted(records)]
    return {"builds": builds, "totals": _totals(builds)}


def _record(devices: _Devices) -> SummaryRecord:
    main_device = _MAIN_DEVICE if _MAIN_DEVICE in devices else min(devices)
    order = [main_device, *sorted(devices.keys() - {main_device})]
    reports = [devices[name][1] for name in order]
    main = reports[0]
    details = main.get("target_details") or {}
    kept = ("inputs", "methods", "outputs", "laxer_gates", "synthetic", "weights", "sweep")
    optional = {key: main.get(key) for key in kept} | {
        "error": next((report["error"] for report in reports if report.get("error")), None)
    }
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
        "known_issues": main.get("known_issues") or [],
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
        **{key: value for key, value in optional.items() if value is not None},
    }


def _record_without_reports(one: FailedBuild) -> SummaryRecord:
    pte = "results/pte/{model}/{recipe}/{target}.pte".format(**one.build)
    absent = ("sha256", "bytes", "artifact", "samples", "latency_ms")
    return {
        "build": one.build,
        "scheme": one.scheme,
        "minimum_os": one.target.get("minimum_os"),
        "target_details": one.target,
        "paths": {"pte": pte, "validation": {}},
        **dict.fromkeys(absent),
        "metrics": dict(_NULL),
        "stages": {"quantization": dict(_NULL), "lowering": dict(_NULL)},
        **{key: [] for key in ("hazards", "known_issues", "gates", "devices")},
        "status": "fail",
    }


def _totals(builds: list[SummaryRecord]) -> Totals:
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
        "bytes": sum(build["bytes"] or 0 for build in builds),
        "hazards": sum(damage(build["hazards"]) for build in builds),
    }


def report_paths(builds: Mapping[str, Mapping[str, list[str]]], devices: list[str]) -> list[str]:
    """Returns the paths of the validation reports of ``builds`` (model to recipe to targets)."""
    return [
        report_path(model, recipe, target, device)
        for model, recipes in builds.items()
        for recipe, targets in recipes.items()
        for target in targets
        for device in devices
    ]


def report_path(model: str, recipe: str, target: str, device: str) -> str:
    """Returns the path of a validation report."""
    return f"results/validation/{model}/{recipe}/{target}/{device}.json"
