"""Writes the paths and digests of a model's module, weights and data, for its other steps."""

from pathlib import Path

from pte_foundry.files import write_json
from pte_foundry.job import command
from pte_foundry.job.arguments import add_slice, slice_argument


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = command.parser(__doc__)
    add_slice(parser)
    parser.add_argument(
        "--paths", type=slice_argument, required=True, help="module, weights and data, as --slice"
    )
    parser.add_argument("--output", type=Path, required=True, help="paths and digests, .json")
    arguments = parser.parse_args(argv)

    def step() -> None:
        write_json(arguments.output, arguments.slice | arguments.paths)

    return command.run(arguments, step)


if __name__ == "__main__":
    raise SystemExit(main())
