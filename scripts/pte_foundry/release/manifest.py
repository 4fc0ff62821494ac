"""The manifest of a release: what every artifact was made from, so that it can be reproduced."""

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pte_foundry.canonical_json import digest
from pte_foundry.files import check_noted, sha256

# Whose version can change an artifact; the lock file's digest covers everything else.
TOOLS = ("torch", "torchao", "executorch", "coremltools", "numpy", "snakemake")


def manifest(
    plans: Sequence[Mapping[str, Any]],
    entries: Mapping[str, Mapping[str, Any]],
    code: Mapping[str, str],
    lock: Path,
) -> dict[str, Any]:
    """Returns the manifest of all artifacts, which must exist.

    Args:
        plans: what to build of each model, and from what (``workflow.slices.plan``).
        entries: each model's paths (``steps.model``), by its name.
        code: digest of the code of each stage that can change an artifact, and of each scheme as
            ``convert/<scheme>``.
        lock: the environment's lock file.

    Returns:
        ``format``, ``environment``, ``code``, ``models``, ``recipes``, ``targets`` and
        ``artifacts`` by path. Each artifact's ``inputs`` is one digest of everything it was made
        from: two artifacts with equal ``inputs`` must have equal bytes.

    Raises:
        DamagedError: an artifact does not have the digest that was noted when it was written.
    """
    environment = {
        "lock_sha256": sha256(lock),
        "python": platform.python_version(),
        "versions": {tool: importlib.metadata.version(tool) for tool in TOOLS},
    }
    made = {"models": {}, "recipes": {}, "targets": {}, "artifacts": {}}
    for plan in plans:
        name = plan["model"]
        files = {role: _file(path) for role, path in sorted(_paths(entries[name]).items())}
        made["models"][name] = {
            **{key: plan[key] for key in ("weights", "data", "options")},
            "files": files,
        }
        made["recipes"] |= plan["recipes"]
        made["targets"] |= plan["targets"]
        for recipe, targets in plan["builds"].items():
            scheme = plan["recipes"][recipe]["scheme"]
            used = {key: value for key, value in code.items() if _belongs(key, scheme)}
            for target in targets:
                path = Path(f"results/pte/{name}/{recipe}/{target}.pte")
                inputs = {
                    "environment": environment,
                    "code": used,
                    "model": {
                        "options": plan["options"],
                        "files": {role: file["sha256"] for role, file in files.items()},
                    },
                    "recipe": plan["recipes"][recipe],
                    "target": plan["targets"][target],
                }
                made["artifacts"][path.as_posix()] = {
                    "model": name,
                    "recipe": recipe,
                    "target": target,
                    "sha256": check_noted(path, path.with_name(f"{path.name}.sha256")),
                    "bytes": path.stat().st_size,
                    "inputs": digest(inputs),
                }
    return {"format": 1, "environment": environment, "code": code, **made}


def _belongs(key: str, scheme: str) -> bool:
    return "/" not in key or key == f"convert/{scheme}"


def _paths(entry: Mapping[str, Any]) -> dict[str, str]:
    data = {f"data.{name}": path for name, path in entry["data"].items()}
    return {"module": entry["module"], "weights": entry["weights"], **data}


def _file(path: str) -> dict[str, str]:
    return {"path": path, "sha256": sha256(Path(path))}
