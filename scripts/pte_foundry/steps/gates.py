"""Fails if a build fails: it misses a gate whose ``on_fail`` is ``fail``, or cannot be executed."""

from pathlib import Path

from pte_foundry.files import read_json, write_json
from pte_foundry.job import command
from pte_foundry.report.verdict import passed


def main(argv: list[str] | None = None) -> int:
    parser = command.parser(__doc__)
    parser.add_argument("--summary", type=Path, required=True, help="results/summary.json")
    parser.add_argument("--output", type=Path, required=True, help="the number of builds, .json")
    arguments = parser.parse_args(argv)

    def step() -> None:
        write_json(arguments.output, passed(read_json(arguments.summary)), durable=True)

    return command.run(arguments, step)


if __name__ == "__main__":
    raise SystemExit(main())
