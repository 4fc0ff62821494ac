"""Copies or downloads one weights or data file into the results folder and checks its SHA-256."""

from pathlib import Path

from pte_foundry.job import command
from pte_foundry.job.arguments import add_slice


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = command.parser(__doc__)
    add_slice(parser)
    parser.add_argument(
        "--root", type=Path, required=True, help="folder that `file:` is relative to"
    )
    parser.add_argument("--output", type=Path, required=True, help="the file")
    arguments = parser.parse_args(argv)

    def step() -> None:
        from pte_foundry.models.fetch import fetch

        fetch(arguments.slice, arguments.root, arguments.output)

    return command.run(arguments, step)


if __name__ == "__main__":
    raise SystemExit(main())
