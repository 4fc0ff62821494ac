"""The manifest: digests of all artifacts and of their inputs, from which they can be reproduced."""

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pte_foundry.canonical_json import digest
from pte_foundry.files import check_noted, sha256
from pte_foundry.installed import differences
from pte_foundry.version import made_by

TOOLS = ("torch", "torchao", "executorch", "coremltools", "numpy", "snakemake")
"""Packages whose versions the manifest names; the lock file's digest covers all of them."""


def manifest(
    plans: Sequence[Mapping[str, Any]],
    models: Mapping[str, Mapping[str, Any]],
    code: Mapping[str, str],
    lock: Path,
    roots: Mapping[str, Path],
    base: Path = Path(),
) -> dict[str, Any]:
    """Returns the manifest of all artifacts, which must exist.

    Args:
        plans: the plan of each model (``workflow.slices.plan``): its builds, weights, data and
            options.
        models: model name to the paths of its files (``steps.model``).
        code: stage to the digest of its code, for stages that can change an artifact, and
            ``convert/<scheme>`` to that of each scheme.
        lock: the environment's lock file.
        roots: model name to the project's folder, which the paths of its source files start from.
        base: the folder that the paths of results start from.

    Returns:
        ``format``, ``made_by``, ``environment``, ``code``, ``models``, ``recipes``, ``targets``
        and, by path, ``artifacts`` with their size in ``bytes``, ``sha256`` and ``inputs``: one
        digest of everything an artifact is built from. Artifacts with equal ``inputs`` must have
        equal bytes. The ``files`` of a model are its module, what that imports in the project,
        weights and data; ``imports`` has fingerprints of what it imports from elsewhere, the
        packages included that the lock does not pin; ``tokenizer`` has the digest of each file of a
        language model's tokenizer. ``unlocked`` names what is not installed as
        the lock has it.

    Raises:
        DamagedError: an artifact's digest differs from the one written with it.
    """
    environment = {
        "lock_sha256": sha256(lock),
        "python": platform.python_version(),
        "versions": {tool: importlib.metadata.version(tool) for tool in TOOLS},
        "unlocked": differences(lock),
    }
    made = {"models": {}, "recipes": {}, "targets": {}, "artifacts": {}}
    for plan in plans:
        name = plan["model"]
        files = _files(models[name], roots[name], base)
        imports = models[name]["listed"]["elsewhere"]
        made["models"][name] = {
            **{key: plan[key] for key in ("weights", "data", "options")},
            "files": files,
            "imports": imports,
        }
        if plan["tokenizer"]:
            made["models"][name]["tokenizer"] = {
                shown: check_noted(base / shown, base / f"{shown}.sha256")
                for shown in plan["tokenizer"]
            }
        made["recipes"] |= plan["recipes"]
        made["targets"] |= plan["targets"]
        for recipe, targets in plan["builds"].items():
            scheme = plan["recipes"][recipe]["scheme"]
            used = {key: value for key, value in code.items() if _belongs(key, scheme)}
            for target in targets:
                shown = f"results/pte/{name}/{recipe}/{target}.pte"
                path = base / shown
                inputs = {
                    "environment": environment,
                    "code": used,
                    "model": {
                        "options": plan["options"],
                        "files": {role: file["sha256"] for role, file in files.items()},
                        "imports": imports,
                    },
                    "recipe": plan["recipes"][recipe],
                    "target": plan["targets"][target],
                }
                made["artifacts"][shown] = {
                    "model": name,
                    "recipe": recipe,
                    "target": target,
                    "sha256": check_noted(path, path.with_name(f"{path.name}.sha256")),
                    "bytes": path.stat().st_size,
                    "inputs": digest(inputs),
                }
    # Tells whom to ask and what to check out. It is no input: another version with the same code
    # makes the same bytes, and a commit that changes no code makes nothing again.
    about = {"format": 1, "made_by": dict(made_by())}
    return {**about, "environment": environment, "code": code, **made}


def _belongs(key: str, scheme: str) -> bool:
    return "/" not in key or key == f"convert/{scheme}"


def _files(model: Mapping[str, Any], root: Path, base: Path) -> dict[str, dict[str, str]]:
    """The files of a model by their role, with the paths of sources as seen from the project."""
    sources = {f"imports.{name}": path for name, path in model["listed"]["project"].items()}
    if model["module"]:
        sources["module"] = model["module"]
        # The module is what it is, and not an import of itself.
        sources.pop(f"imports.{Path(model['module']).name}", None)
    results = {f"data.{name}": path for name, path in model["data"].items()}
    results["weights"] = model["weights"]
    paths = {role: (path, root / path) for role, path in sources.items()}
    paths |= {role: (path, base / path) for role, path in results.items()}
    return {
        role: {"path": shown, "sha256": sha256(path)}
        for role, (shown, path) in sorted(paths.items())
    }
