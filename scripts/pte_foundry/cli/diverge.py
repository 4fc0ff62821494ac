"""``pte-foundry diverge``: attributes an artifact's error to its layers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pte_foundry.cli.console import cell
from pte_foundry.cli.console import console as make_console
from pte_foundry.cli.files import existing
from pte_foundry.cli.limits import add_limits, limits_of, whole_number
from pte_foundry.errors import InputError
from pte_foundry.files import read_json, sha256
from pte_foundry.terminal import printable

SHOWN = 20

DESCRIPTION = """\
Runs an artifact and the fp32 program side by side on a few evaluation samples,
and prints the layers that introduce the largest error. Introduced: SQNR in dB
of the artifact's values in the layer against fp32 from the same inputs, so
errors of earlier layers do not count. Accumulated: against fp32 from the
model's inputs. Lower is worse. Both measure values inside of the program, not
their effect on the outputs.

For results/pte/MODEL/RECIPE/TARGET.pte the other files are found in the same
results folder."""
EXAMPLES = """\
  pte-foundry diverge results/pte/minilm/lut4/ios18.pte
  pte-foundry diverge results/pte/minilm/lut4/ios18.pte --layers 5 --samples 16
  pte-foundry diverge results/pte/decoder/lut4/ios18.pte --method decode
  pte-foundry diverge a.pte --program fp32.pt2 --reference samples.safetensors \\
      --debug-handles lowered.json --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="the artifact, a .pte")
    files = parser.add_argument_group("files of the build", "needed outside of a results folder")
    files.add_argument("--program", type=Path, metavar="PT2", help="the exported fp32 program")
    files.add_argument(
        "--reference", type=Path, metavar="SAFETENSORS", help="its evaluation samples"
    )
    files.add_argument(
        "--debug-handles", type=Path, metavar="JSON", help="the debug handles of the lowering"
    )
    parser.add_argument(
        "--samples", type=whole_number, metavar="N", help="evaluation samples to run (a few)"
    )
    parser.add_argument("--method", metavar="NAME", help="compare this method alone (all)")
    parser.add_argument(
        "--layers",
        type=whole_number,
        default=SHOWN,
        metavar="N",
        help=f"layers to print ({SHOWN})",
    )
    parser.add_argument(
        "--output", type=Path, metavar="JSON", help="write the report of all layers here"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    add_limits(parser, factor=4)


def run(arguments: argparse.Namespace) -> int:
    from pte_foundry.files import write_json
    from pte_foundry.models import programs
    from pte_foundry.models.tensors import Samples
    from pte_foundry.pte import Pte
    from pte_foundry.validate.divergence import SAMPLES, diverge_all

    pte = existing(arguments.file)
    names = ("program", "reference", "debug_handles")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name)}
    files = given if len(given) == len(names) else files_behind(pte) | given
    _require(files.values())
    handles, loaded = read_json(files["debug_handles"]), Pte.load(pte, limits_of(arguments))
    loaded.add_debug_info(handles.get("debug_info", {}))
    report = diverge_all(
        loaded,
        programs.load_all(files["program"]),
        handles["operators"],
        Samples.load(files["reference"]),
        arguments.samples or SAMPLES,
        arguments.method,
    )
    report |= {"artifact": {"path": pte.as_posix(), "sha256": sha256(pte)}}
    if arguments.output:
        write_json(arguments.output, report)
    if arguments.json:
        print(json.dumps(report, indent=1, sort_keys=True))
    else:
        _print_layers(report, arguments.layers)
    return 0


def files_behind(pte: Path) -> dict[str, Path]:
    """Returns the files that an artifact ``…/pte/MODEL/RECIPE/TARGET.pte`` was built from.

    Targets that differ in compute units only share a lowered program, so it is found by content.

    Raises:
        InputError: the artifact is not in a results folder, or was built from none of its
            lowered programs.
    """
    from pte_foundry.pte import Pte

    recipe = pte.absolute().parent
    model = recipe.parent
    results = model.parent.parent
    folder = results / "lower" / model.name / recipe.name
    carried = _carried(Pte.load(pte))
    candidates = sorted(folder.glob("*.pte"))
    for candidate in candidates:
        if _carried(Pte.load(candidate)) == carried:
            return {
                "program": results / "export" / f"{model.name}.pt2",
                "reference": results / "reference" / f"{model.name}.safetensors",
                "debug_handles": candidate.with_suffix(".json"),
            }
    raise InputError(
        f"{pte}: {len(candidates)} lowered programs in {folder}, and none has the artifact's "
        "content. Expected an artifact in its results folder, "
        "results/pte/MODEL/RECIPE/TARGET.pte, unchanged since the last build. Build it again, or "
        "name the files it was built from: --program, --reference and --debug-handles."
    )


def _carried(pte: Any) -> list[tuple[bytes, bytes]]:
    return [(bytes(d.model.model), bytes(d.model.weights or b"")) for d in pte.delegates]


def _require(files: Iterable[Path]) -> None:
    """Raises InputError that lists the files that do not exist, or are pipes or devices."""
    if missing := [str(file) for file in files if not file.is_file()]:
        raise InputError(
            f"missing: {', '.join(missing)}. Build the artifact again, or name the files it was "
            "built from: --program, --reference and --debug-handles."
        )


def _print_layers(report: Mapping[str, Any], rows: int) -> None:
    """Prints the layers that introduce most."""
    from rich.table import Table

    from pte_foundry.report import text

    console = make_console()
    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    for title in ("", "introduced dB", "accumulated dB"):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ("fp32 range", "program range"):
        table.add_column(title, no_wrap=True)
    methods = any("method" in layer for layer in report["layers"])
    if methods:
        table.add_column("method", no_wrap=True)
    table.add_column("layer", overflow="fold")
    table.add_column("hazards")
    for rank, layer in enumerate(report["layers"][:rows], start=1):
        table.add_row(
            str(rank),
            text.noise(layer["introduced_sqnr_db"]),
            text.noise(layer["accumulated_sqnr_db"]),
            text.interval(layer["reference"]),
            text.interval(layer["program"]),
            *([cell(layer["method"])] if methods else []),
            cell(text.layer(layer["layer"])),
            cell(", ".join(layer["hazards"]), "red"),
        )
    console.print(table)
    console.print()
    if (left := len(report["layers"]) - rows) > 0:
        console.print(f"and {left} more layers")
    if report["uncovered"]:
        listed = printable(", ".join(report["uncovered"]))
        console.print(cell(f"without a value in the artifact: {listed}", "dim"))
