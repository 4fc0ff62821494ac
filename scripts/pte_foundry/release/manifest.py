"""The manifest: digests of all artifacts and of their inputs, from which they can be reproduced."""

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pte_foundry.canonical_json import digest
from pte_foundry.files import check_noted, sha256

TOOLS = ("torch", "torchao", "executorch", "coremltools", "numpy", "snakemake")
"""Packages whose versions the manifest names; the lock file's digest covers all of them."""


def manifest(
    plans: Sequence[Mapping[str, Any]],
    models: Mapping[str, Mapping[str, Any]],
    code: Mapping[str, str],
    lock: Path,
) -> dict[str, Any]:
    """Returns the manifest of all artifacts, which must exist.

    Args:
        plans: the plan of each model (``workflow.slices.plan``): its builds, weights, data and
            options.
        models: model name to the paths of its files (``steps.model``).
        code: stage to the digest of its code, for stages that can change an artifact, and
            ``convert/<scheme>`` to that of each scheme.
        lock: the environment's lock file.

    Returns:
        ``format``, ``environment``, ``code``, ``models``, ``recipes``, ``targets`` and, by path,
        ``artifacts`` with their size in ``bytes``, ``sha256`` and ``inputs``: one digest of
        everything an artifact is built from. Artifacts with equal ``inputs`` must have equal bytes.

    Raises:
        DamagedError: an artifact's digest differs from the one written with it.
    """
    environment = {
        "lock_sha256": sha256(lock),
        "python": platform.python_version(),
        "versions": {tool: importlib.metadata.version(tool) for tool in TOOLS},
    }
    made = {"models": {}, "recipes": {}, "targets": {}, "artifacts": {}}
    for plan in plans:
        name = plan["model"]
        files = {role: _file(path) for role, path in sorted(_paths(models[name]).items())}
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


def _paths(model: Mapping[str, Any]) -> dict[str, str]:
    data = {f"data.{name}": path for name, path in model["data"].items()}
    return {"module": model["module"], "weights": model["weights"], **data}


def _file(path: str) -> dict[str, str]:
    return {"path": path, "sha256": sha256(Path(path))}
