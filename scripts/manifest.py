"""Writes down what every artifact was made from, so that a release can be reproduced."""

import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path

from scripts import cli, plans
from scripts.files import check_noted, sha256, write_json

# Whose version can change an artifact; the lock file's digest covers everything else.
TOOLS = ("torch", "torchao", "executorch", "coremltools", "numpy", "snakemake")


def manifest(plan: dict, lock: Path) -> dict:
    """The manifest of a plan's artifacts, which must exist.

    ``plan`` holds ``code`` (digest of each step's code), ``models`` (their configuration, with
    ``files``: path of the module, weights and data by name), ``recipes``, ``targets``, and
    ``builds`` (targets by recipe by model). Each artifact's ``inputs`` is one digest over all of
    what it was made from: two artifacts with equal ``inputs`` must have equal bytes.
    """
    models = {
        name: {
            **{key: value for key, value in model.items() if key != "files"},
            "files": {
                role: {"path": path, "sha256": sha256(Path(path))}
                for role, path in sorted(model["files"].items())
            },
        }
        for name, model in plan["models"].items()
    }
    environment = {
        "lock_sha256": sha256(lock),
        "python": platform.python_version(),
        "versions": {tool: importlib.metadata.version(tool) for tool in TOOLS},
    }
    artifacts = {}
    for model, recipes in plan["builds"].items():
        for recipe, targets in recipes.items():
            for target in targets:
                path = Path(f"results/pte/{model}/{recipe}/{target}.pte")
                made_from = {
                    "environment": environment,
                    "code": plan["code"],
                    "model": {
                        "options": models[model]["options"],
                        "files": {role: f["sha256"] for role, f in models[model]["files"].items()},
                    },
                    "recipe": plan["recipes"][recipe],
                    "target": plan["targets"][target],
                }
                digest = check_noted(path, path.with_name(f"{path.name}.sha256"))
                text = json.dumps(made_from, sort_keys=True)
                artifacts[path.as_posix()] = {
                    "model": model,
                    "recipe": recipe,
                    "target": target,
                    "sha256": digest,
                    "bytes": path.stat().st_size,
                    "inputs": hashlib.sha256(text.encode()).hexdigest(),
                }
    return {
        "format": 1,
        "environment": environment,
        "code": plan["code"],
        "models": models,
        "recipes": plan["recipes"],
        "targets": plan["targets"],
        "artifacts": artifacts,
    }


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="see manifest()")
    parser.add_argument("--digest", required=True, help="the plan's, see scripts/plans.py")
    parser.add_argument("--lock", type=Path, required=True, help="the environment's lock file")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)

    def step() -> None:
        plan = plans.read(arguments.plan, arguments.digest)
        write_json(arguments.output, manifest(plan, arguments.lock))

    return cli.run(arguments, step)


if __name__ == "__main__":
    raise SystemExit(main())
