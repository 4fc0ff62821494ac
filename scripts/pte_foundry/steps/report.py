"""Renders the HTML report: one self-contained page."""

from pathlib import Path

from pte_foundry.files import base_of, read_json, replacing
from pte_foundry.job import command
from pte_foundry.job.arguments import add_slice
from pte_foundry.report.page import render
from pte_foundry.report.schema import Summary
from pte_foundry.validate.divergence_schema import DivergenceReport


def divergence_of(summary: Summary, base: Path) -> dict[str, DivergenceReport]:
    """Reads the divergence reports below ``base``; returns them by the paths of the artifacts."""
    reports = {}
    for build in summary["builds"]:
        model, recipe, target = (build["build"][part] for part in ("model", "recipe", "target"))
        path = base / f"results/divergence/{model}/{recipe}/{target}.json"
        reports[build["paths"]["pte"]] = read_json(path)
    return reports


def main(argv: list[str] | None = None) -> int:
    parser = command.parser(__doc__)
    parser.add_argument("--summary", type=Path, required=True, help="results/summary.json")
    parser.add_argument("--manifest", type=Path, required=True, help="results/manifest.json")
    add_slice(parser)
    parser.add_argument("--output", type=Path, required=True, help="the page, .html")
    arguments = parser.parse_args(argv)

    def step() -> None:
        manifest = read_json(arguments.manifest)
        summary = read_json(arguments.summary)
        base = base_of(arguments.output, "results/report/index.html")
        divergence = divergence_of(summary, base) if arguments.slice["divergence"] else None
        page = render(summary, manifest, divergence, arguments.slice["models"])
        with replacing(arguments.output, durable=True) as temporary:
            temporary.write_text(page, encoding="utf-8")

    return command.run(arguments, step)


if __name__ == "__main__":
    raise SystemExit(main())
