"""Tells where an artifact's error comes from: layer by layer, against the fp32 program.

For an artifact in a results folder `--pte` is enough: the other files are found beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts import cli
from scripts.errors import InputError
from scripts.files import check_noted, read_json, sha256, write_json

SAMPLES = 4
SHOWN = 20


def beside(pte: Path) -> dict[str, Path]:
    """The files behind an artifact ``…/pte/{model}/{recipe}/{target}.pte`` of a results folder.

    Targets that differ in compute units only share a lowered program, so it is told by its content.

    Raises:
        InputError: there are none, or the artifact was not made from any of them.
    """
    from scripts.pte import Pte

    recipe = pte.absolute().parent
    model, results = recipe.parent, recipe.parents[2]
    carried = _carried(Pte.load(pte))
    lowered = sorted((results / "lower" / model.name / recipe.name).glob("*.pte"))
    for candidate in lowered:
        if _carried(Pte.load(candidate)) == carried:
            return {
                "program": results / "export" / f"{model.name}.pt2",
                "reference": results / "reference" / f"{model.name}.safetensors",
                "operators": candidate.with_suffix(".json"),
            }
    raise InputError(
        f"{pte} is not beside what it was made from: {len(lowered)} lowered programs in "
        f"{results / 'lower' / model.name / recipe.name}, none of them with its content. "
        "Name the files: --program, --reference and --operators."
    )


def _carried(pte: Any) -> list[tuple[bytes, bytes]]:
    return [(bytes(d.model.model), bytes(d.model.weights or b"")) for d in pte.delegates]


def show(report: Mapping[str, Any], rows: int) -> None:
    """Prints the layers that introduce most."""
    from rich.table import Table
    from rich.text import Text

    from scripts.report import text

    console = cli.console()
    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    for title in ("", "introduced dB", "accumulated dB"):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ("fp32 range", "program range"):
        table.add_column(title, no_wrap=True)
    table.add_column("layer", overflow="fold")
    table.add_column("hazards")
    for rank, layer in enumerate(report["layers"][:rows], start=1):
        table.add_row(
            str(rank),
            text.noise(layer["introduced_sqnr_db"]),
            text.noise(layer["accumulated_sqnr_db"]),
            text.interval(layer["reference"]),
            text.interval(layer["program"]),
            Text(text.layer(layer["layer"])),
            Text(", ".join(layer["hazards"]), style="red"),
        )
    console.print(table)
    console.print()
    if (left := len(report["layers"]) - rows) > 0:
        console.print(f"and {left} more layers")
    if report["uncovered"]:
        listed = ", ".join(report["uncovered"])
        console.print(Text(f"without a value in the artifact: {listed}", style="dim"))


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--pte", type=Path, required=True, help="the artifact")
    parser.add_argument("--digest", type=Path, help="its digest, for sha256sum, to check it first")
    parser.add_argument("--program", type=Path, help="the exported fp32 program, .pt2")
    parser.add_argument("--reference", type=Path, help="its evaluation samples, .safetensors")
    parser.add_argument("--operators", type=Path, help="what was lowered, .json")
    parser.add_argument(
        "--samples", type=int, default=SAMPLES, help=f"how many samples to run ({SAMPLES})"
    )
    parser.add_argument(
        "--layers", type=int, default=SHOWN, help=f"how many layers to print ({SHOWN})"
    )
    parser.add_argument("--output", type=Path, help="write the report of all layers here, .json")
    arguments = parser.parse_args(argv)

    def step() -> None:
        from scripts import programs
        from scripts.pte import Pte
        from scripts.tensors import Samples
        from scripts.validate.divergence import diverge

        pte = arguments.pte
        digest = check_noted(pte, arguments.digest) if arguments.digest else sha256(pte)
        names = ("program", "reference", "operators")
        given = {name: getattr(arguments, name) for name in names if getattr(arguments, name)}
        files = given if len(given) == len(names) else beside(pte) | given
        report = diverge(
            Pte.load(pte),
            programs.load(files["program"]),
            read_json(files["operators"])["operators"],
            Samples.load(files["reference"]).inputs[: arguments.samples],
        )
        if arguments.output:
            artifact = {"path": pte.as_posix(), "sha256": digest}
            write_json(arguments.output, report | {"artifact": artifact})
        show(report, arguments.layers)

    return cli.run(arguments, step, warm=True)


if __name__ == "__main__":
    raise SystemExit(main())
