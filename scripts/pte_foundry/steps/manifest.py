"""Writes the manifest: the digest of every artifact and of everything that it was built from."""

from pathlib import Path

from pte_foundry.files import base_of, read_json, write_json
from pte_foundry.job import command
from pte_foundry.job.arguments import add_slice
from pte_foundry.release.manifest import manifest


def main(argv: list[str] | None = None) -> int:
    parser = command.parser(__doc__)
    add_slice(parser)
    parser.add_argument(
        "--plans", type=Path, nargs="+", required=True, help="the plan of each model, .json"
    )
    parser.add_argument(
        "--models", type=Path, nargs="+", required=True, help="results/model/<model>.json of each"
    )
    parser.add_argument("--lock", type=Path, required=True, help="the environment's lock file")
    parser.add_argument(
        "--roots", type=Path, nargs="+", required=True, help="the project's folder of each model"
    )
    parser.add_argument("--output", type=Path, required=True, help="the manifest, .json")
    arguments = parser.parse_args(argv)

    def step() -> None:
        plans = [read_json(path) for path in arguments.plans]
        models = {path.stem: read_json(path) for path in arguments.models}
        code = arguments.slice["code"]
        base = base_of(arguments.output, "results/manifest.json")
        roots = dict(zip(models, arguments.roots, strict=True))
        made = manifest(plans, models, code, arguments.lock, roots, base)
        write_json(arguments.output, made, durable=True)

    return command.run(arguments, step)


if __name__ == "__main__":
    raise SystemExit(main())
