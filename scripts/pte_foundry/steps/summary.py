"""Aggregates the validation reports of all builds into one summary."""

from pathlib import Path

from pte_foundry.files import base_of, read_json, write_json
from pte_foundry.job import command
from pte_foundry.job.arguments import add_slice
from pte_foundry.report.summary import report_paths, summarize


def main(argv: list[str] | None = None) -> int:
    parser = command.parser(__doc__)
    add_slice(parser)
    parser.add_argument(
        "--plans", type=Path, nargs="+", required=True, help="the plan of each model, .json"
    )
    parser.add_argument("--output", type=Path, required=True, help="the summary, .json")
    arguments = parser.parse_args(argv)

    def step() -> None:
        plans = map(read_json, arguments.plans)
        builds = {plan["model"]: plan["builds"] for plan in plans}
        paths = report_paths(builds, arguments.slice["devices"])
        base = base_of(arguments.output, "results/summary.json")
        made = summarize({path: read_json(base / path) for path in paths})
        write_json(arguments.output, made, durable=True)

    return command.run(arguments, step)


if __name__ == "__main__":
    raise SystemExit(main())
