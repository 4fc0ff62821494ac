"""``pte-foundry diverge``: attributes an artifact's error to its layers, against the fp32 program."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pte_foundry.cli.console import console as make_console
from pte_foundry.errors import InputError
from pte_foundry.files import read_json, sha256

SHOWN = 20


def beside(pte: Path) -> dict[str, Path]:
    """The files behind an artifact ``…/pte/{model}/{recipe}/{target}.pte`` of a results folder.

    Targets that differ in compute units only share a lowered program, so it is told by its content.

    Raises:
        InputError: there are none, or the artifact was not made from any of them.
    """
    from pte_foundry.pte import Pte

    recipe = pte.absolute().parent
    model, results = recipe.parent, recipe.parents[2]
    carried = _carried(Pte.load(pte))
    lowered = sorted((results / "lower" / model.name / recipe.name).glob("*.pte"))
    for candidate in lowered:
        if _carried(Pte.load(candidate)) == carried:
            return {
                "program": results / "export" / f"{model.name}.pt2",
                "reference": results / "reference" / f"{model.name}.safetensors",
                "debug_handles": candidate.with_suffix(".json"),
            }
    raise InputError(
        f"{pte} is not beside what it was made from: {len(lowered)} lowered programs in "
        f"{results / 'lower' / model.name / recipe.name}, none of them with its content. "
        "Name the files: --program, --reference and --debug-handles."
    )


def _carried(pte: Any) -> list[tuple[bytes, bytes]]:
    return [(bytes(d.model.model), bytes(d.model.weights or b"")) for d in pte.delegates]


def show(report: Mapping[str, Any], rows: int) -> None:
    """Prints the layers that introduce most."""
    from rich.table import Table
    from rich.text import Text

    from pte_foundry.report import text

    console = make_console()
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pte", type=Path, help="the artifact, in a results folder")
    parser.add_argument("--program", type=Path, help="the exported fp32 program, .pt2")
    parser.add_argument("--reference", type=Path, help="its evaluation samples, .safetensors")
    parser.add_argument("--debug-handles", type=Path, help="of the lowering, .json")
    parser.add_argument("--samples", type=int, help="how many evaluation samples to run")
    parser.add_argument(
        "--layers", type=int, default=SHOWN, help=f"how many layers to print ({SHOWN})"
    )
    parser.add_argument("--output", type=Path, help="write the report of all layers here, .json")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(arguments: argparse.Namespace) -> int:
    from pte_foundry.files import write_json
    from pte_foundry.models import programs
    from pte_foundry.models.tensors import Samples
    from pte_foundry.pte import Pte
    from pte_foundry.validate.divergence import SAMPLES, diverge

    pte = arguments.pte
    names = ("program", "reference", "debug_handles")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name)}
    files = given if len(given) == len(names) else beside(pte) | given
    report = diverge(
        Pte.load(pte),
        programs.load(files["program"]),
        read_json(files["debug_handles"])["operators"],
        Samples.load(files["reference"]).inputs[: arguments.samples or SAMPLES],
    )
    report |= {"artifact": {"path": pte.as_posix(), "sha256": sha256(pte)}}
    if arguments.output:
        write_json(arguments.output, report)
    if arguments.json:
        print(json.dumps(report, indent=1, sort_keys=True))
    else:
        show(report, arguments.layers)
    return 0
