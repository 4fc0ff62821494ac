"""Writes the manifest: the digest of every artifact and of everything it was made from."""

from pathlib import Path

from pte_foundry.files import read_json, write_json
from pte_foundry.job import command
from pte_foundry.job.arguments import add_slice
from pte_foundry.release.manifest import manifest


def main(argv: list[str] | None = None) -> int:
    parser = command.parser(__doc__)
    add_slice(parser)
    parser.add_argument("--plans", type=Path, nargs="+", required=True, help="of all models, .json")
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="the entries, .json")
    parser.add_argument("--lock", type=Path, required=True, help="the environment's lock file")
    parser.add_argument("--output", type=Path, required=True, help="the manifest, .json")
    arguments = parser.parse_args(argv)

    def step() -> None:
        plans = [read_json(path) for path in arguments.plans]
        entries = {path.stem: read_json(path) for path in arguments.models}
        code = arguments.slice["code"]
        write_json(arguments.output, manifest(plans, entries, code, arguments.lock))

    return command.run(arguments, step)


if __name__ == "__main__":
    raise SystemExit(main())
