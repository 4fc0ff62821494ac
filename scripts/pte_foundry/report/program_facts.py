"""What the page tells about the program inside of an artifact: facts, sizes and operations."""

from collections.abc import Mapping
from typing import Any

from pte_foundry.report import text
from pte_foundry.report.schema import SummaryRecord


def sizes(build: SummaryRecord) -> list[list[Any]]:
    """Returns the bytes of the weights by dtype, largest first, and of the rest of the file."""
    weights = build["artifact"].get("weight_bytes") or {}
    found = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    rest = (build["bytes"] or 0) - sum(weights.values())
    if weights and rest > 0:
        found.append(("program and other data", rest))
    return [[name, count, text.size(count)] for name, count in found]


def operations(build: SummaryRecord) -> list[list[Any]]:
    """Returns the number of MIL operations by type, most frequent first."""
    counts = build["artifact"]["ops"]
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [[name, count, str(count)] for name, count in ordered]


def program(build: SummaryRecord) -> list[list[str]]:
    """Returns facts of the program and the target by name."""
    artifact, details = build["artifact"], build["target_details"]
    weights = build.get("weights") or {}
    unshared = artifact.get("unshared_weight_bytes")
    facts = [
        ("scheme", build["scheme"]),
        ("weights compressed", weights and text.percent(weights["compressed"])),
        ("bits per weight", _bits(build)),
        ("largest weights in floating point", weights.get("floats")),
        *((text.label(key), value) for key, value in sorted(details.items())),
        ("specification version", artifact["specification_version"]),
        ("delegated to Core ML", text.percent(artifact["delegated_fraction"])),
        ("operations", sum(artifact["ops"].values())),
        ("operators outside of Core ML", artifact.get("kernels")),
        ("states", artifact["states"] or "none"),
        ("constant methods", artifact.get("constants")),
        ("weights if methods shared none", unshared and text.size(unshared)),
        ("evaluation samples", build["samples"]),
        ("synthetic", build.get("synthetic")),
    ]
    return [[key, joined(value)] for key, value in facts if value not in (None, "", {}, [])]


def _bits(build: SummaryRecord) -> str | None:
    """Bits of the file for each weight, scales and tables included."""
    values = (build.get("weights") or {}).get("values")
    stored = sum((build["artifact"].get("weight_bytes") or {}).values())
    return f"{8 * stored / values:.2f}" if values and stored else None


def joined(value: Any) -> str:
    """Formats a value, the parts of a list or mapping separated by commas."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {part}" for key, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
