"""Writes the report that a person reads, as one self-contained page."""

from pathlib import Path

from scripts import cli, files
from scripts.files import read_json
from scripts.report.page import render


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--summary", type=Path, required=True, help="results/summary.json")
    parser.add_argument("--manifest", type=Path, help="results/manifest.json")
    parser.add_argument("--output", type=Path, required=True, help="the page to write (HTML)")
    arguments = parser.parse_args(argv)

    def step() -> None:
        manifest = read_json(arguments.manifest) if arguments.manifest else None
        page = render(read_json(arguments.summary), manifest)
        with files.replacing(arguments.output) as temporary:
            temporary.write_text(page, encoding="utf-8")

    return cli.run(arguments, step)


if __name__ == "__main__":
    raise SystemExit(main())
