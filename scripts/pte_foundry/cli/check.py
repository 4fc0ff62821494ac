"""``pte-foundry check``: checks config files, and recipes against the models as far as known."""

import argparse
import json
from pathlib import Path

from pte_foundry.config.config import Config, load
from pte_foundry.errors import ConfigError
from pte_foundry.workflow.jobs import Jobs

UNKNOWN = 3

DESCRIPTION = """\
Checks config files before a build. All errors are listed at once, each with
file, line, key, value, what is allowed, and how to fix it. Recipes and
enumerated shapes are checked against the models as well whose structure is
known: snakemake structure finds it."""
EXAMPLES = """\
  pte-foundry check
  pte-foundry check config/config.yaml config/full.yaml   # the second wins
  pte-foundry check --json mine.yaml | jq .builds
"""
EXIT_CODES = {
    0: "the config has no errors",
    1: "the config has errors, or cannot be read",
    UNKNOWN: "with --structure: no errors, but a model is not known yet",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        default=[Path("config/config.yaml")],
        help="config files, a later one over the earlier ones (config/config.yaml)",
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=Path.cwd(),
        metavar="FOLDER",
        help="the project's folder, with config/ and results/ (the current one)",
    )
    parser.add_argument(
        "--structure",
        action="store_true",
        help=f"exit with {UNKNOWN} if a model's structure is not known yet",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print error (a text or null), files (the lowest first), builds, and "
        "unknown_structure (models) as JSON",
    )


def run(arguments: argparse.Namespace) -> int:
    root = arguments.root.resolve()
    found = {"error": None, "files": [], "builds": [], "unknown_structure": []}
    try:
        config = load([file.resolve() for file in arguments.files], root)
        jobs = Jobs(config)
        known = jobs.known_modules(root / "results")
        config.check_structure(known)
        config.check_inputs(jobs.known_inputs(root / "results"))
    except ConfigError as error:
        if not arguments.json:
            raise
        print(json.dumps(found | {"error": str(error)}, indent=1))
        return 1
    names = ("model", "recipe", "target")
    builds = [{name: getattr(build, name) for name in names} for build in config.builds]
    unknown = sorted(set(config.built_models) - known.keys())
    if arguments.json:
        files = [file.shown for file in config.layers.files]
        made = {"files": files, "builds": builds, "unknown_structure": unknown}
        print(json.dumps(found | made, indent=1))
    else:
        print(f"ok: {len(builds)} build{'s' * (len(builds) != 1)}{_over(config)}")
        if arguments.structure and unknown:
            print(f"structure not known yet: {', '.join(unknown)} (snakemake structure finds it)")
    return UNKNOWN if arguments.structure and unknown else 0


def _over(config: Config) -> str:
    """What the last config file is laid over."""
    *below, last = [file.shown for file in config.layers.files]
    return f" ({last} over {', '.join(reversed(below))})" if below else ""
