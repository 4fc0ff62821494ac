"""Builds a language model of a billion parameters, and draws the memory that every step takes.

It builds ``config/large.yaml`` in a folder of its own, which it removes afterwards. On 2 cores that
takes 40 minutes; it needs 14 GiB of memory and 20 GiB of the disk that has the output.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from pte_foundry.bench import CLONE, record
from pte_foundry.bench.large_estimates import document
from pte_foundry.errors import FoundryError
from pte_foundry.files import is_temporary, read_json, replacing, write_bytes, write_json
from pte_foundry.job import command
from pte_foundry.workflow.stages import STAGES

TITLE = "A large language model"
HOW = (
    "Peak memory in MiB and seconds of every step that builds config/large.yaml, from benchmarks/ "
    "(getrusage(2)), one row for each job; validation runs on the interpreter. Every step computes "
    "in one thread, and two run at the same time if the memory that they request allows it."
)
CONFIG = CLONE / "config/large.yaml"
LIMIT_GIB, LIMIT_MINUTES = 14, 40
_DISK_GIB = 20
_FOLDERS = {"validation": "validate"}
"""Folders of benchmarks that are not named as their step."""


def build(folder: Path, console: Console, config: Path = CONFIG) -> float:
    """Builds a configuration in a folder; returns the seconds.

    Args:
        folder: gets ``results``, ``benchmarks`` and ``logs``.
        console: where a line for each finished step is printed.
        config: the configuration.

    Raises:
        FoundryError: the build failed, or its disk is too small.
    """
    free = shutil.disk_usage(folder).free / 2**30
    if config == CONFIG and free < _DISK_GIB:
        raise FoundryError(f"{folder} has {free:.0f} GiB of free disk; needed: {_DISK_GIB} GiB")
    told: set[str] = set()
    began = time.monotonic()
    with subprocess.Popen(_command(folder, config), cwd=CLONE, env=_environment()) as running:
        ended = False
        while not ended:
            with suppress(subprocess.TimeoutExpired):
                ended = running.wait(timeout=1) is not None
            for shown in map(line, rows(folder / "benchmarks")):
                if shown not in told:
                    told.add(shown)
                    console.print(f"  {shown}", style="dim", highlight=False)
    if running.returncode:
        raise FoundryError(f"{config.name} could not be built; the log has Snakemake's output")
    return time.monotonic() - began


def _command(folder: Path, config: Path) -> list[str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    options = {"--directory": folder, "--configfile": config, "--resources": f"mem_mb={memory}"}
    given = [str(word) for option in options.items() for word in option]
    return [sys.executable, "-m", "snakemake", "--cores", "all", *given]


def _environment() -> dict[str, str]:
    search = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | {"PATH": search, "PYTHONPATH": str(CLONE / "scripts")}


def rows(benchmarks: Path) -> list[dict[str, Any]]:
    """Returns a row for each job that has ended, in the order of the stages.

    Args:
        benchmarks: the folder ``benchmarks`` of a build of one model for one target.
    """
    found = []
    for file in benchmarks.rglob("*.tsv"):
        if is_temporary(file.name):  # a step is about to end
            continue
        folder, _, *of = file.relative_to(benchmarks).with_suffix("").parts
        with file.open(encoding="utf-8", newline="") as opened:
            (measured,) = csv.DictReader(opened, delimiter="\t")
        found.append(
            {
                "step": _FOLDERS.get(folder, folder),
                "recipe": of[0] if of else "",
                "peak_mb": float(measured["max_rss"]),
                "seconds": float(measured["s"]),
                "cpu_s": float(measured["cpu_time"]),
            }
        )
    order = list(STAGES)
    return sorted(found, key=lambda row: (order.index(row["step"]), row["recipe"]))


def line(row: Mapping[str, Any]) -> str:
    """Returns a row of :func:`rows` for the terminal."""
    name = " ".join(filter(None, (row["step"], row["recipe"])))
    return f"{name:<24}{row['peak_mb'] / 1024:6.2f} GiB{row['seconds']:7.0f} s"


def artifacts(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the entry of each artifact in ``summary.json``."""
    return [
        {
            "recipe": build["build"]["recipe"],
            "status": build["status"],
            "bytes": build["bytes"],
            "weight_bytes": build["artifact"]["weight_bytes"],
            "lowering_sqnr_db": build["stages"]["lowering"]["sqnr_db"],
            "quantization_sqnr_db": build["stages"]["quantization"]["sqnr_db"],
        }
        for build in summary["builds"]
    ]


def problems(measured: Mapping[str, Any]) -> Iterator[str]:
    """Yields what is not as it is to be: an artifact, a step's memory, the time."""
    for artifact in measured["artifacts"]:
        if artifact["status"] != "pass":
            yield f"{artifact['recipe']}: {artifact['status']}"
    for row in measured["steps"]:
        if row["peak_mb"] >= LIMIT_GIB * 1024:
            yield f"{line(row)}; allowed: {LIMIT_GIB} GiB"
    if measured["seconds"] >= LIMIT_MINUTES * 60:
        yield f"{measured['seconds'] / 60:.0f} minutes; allowed: {LIMIT_MINUTES}"


def picture(steps: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws the peak of every step as a bar, with the limit as a line; a PNG."""
    import altair as alt

    drawn = [
        {
            "step": row["step"],
            "recipe": row["recipe"] or "both",
            "gib": row["peak_mb"] / 1024,
            "label": f"{row['peak_mb'] / 1024:.1f} GiB, {row['cpu_s'] / 60:.1f} min",
        }
        for row in steps
    ]
    order = list(dict.fromkeys(row["step"] for row in drawn))
    recipes = sorted({row["recipe"] for row in drawn} - {"both"})
    colors = alt.Scale(domain=["both", *recipes], range=["#9aa5b1", "#2fa38c", "#4477aa"])
    base = alt.Chart(alt.Data(values=drawn)).encode(
        y=alt.Y("step:N", sort=order, title=None, axis=alt.Axis(ticks=False, domain=False)),
        yOffset=alt.YOffset("recipe:N", sort=["both", *recipes]),
        x=alt.X("gib:Q", scale=alt.Scale(domain=[0, LIMIT_GIB + 4]), title="peak memory, GiB"),
    )
    bars = base.mark_bar(height=11).encode(
        color=alt.Color("recipe:N", scale=colors, title=None, legend=alt.Legend(orient="top"))
    )
    labels = base.mark_text(align="left", dx=4, fontSize=10).encode(text="label:N")
    limit = alt.Chart(alt.Data(values=[{"gib": LIMIT_GIB}]))
    rule = limit.mark_rule(color="#e4593f", strokeDash=[5, 4]).encode(x="gib:Q")
    title = {
        "text": "Llama 3.2 1B's shape, 4 bits: peak memory of every step",
        "subtitle": "1.24 billion parameters; dashed: the limit; min: processor time",
    }
    chart = alt.layer(bars, labels, rule).properties(width=520, height={"step": 15}, title=title)
    with replacing(path) as temporary:
        chart.save(str(temporary), format="png", scale_factor=2)


def measure(output: Path, console: Console) -> dict[str, Any]:
    """Builds, and returns the entry of the record."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="large-", dir=output) as name:
        seconds = build(Path(name), console)
        summary = read_json(Path(name, "results/summary.json"))
        entry = {"steps": rows(Path(name, "benchmarks")), "artifacts": artifacts(summary)}
    shape = json.loads((CONFIG.parent / "models/llama_3_2_1b/config.json").read_text())
    return record.benchmark(TITLE, HOW, []) | entry | {"seconds": seconds, "shape": shape}


def main(argv: list[str] | None = None) -> int:
    """Builds, then writes the record, the picture and the document."""
    parser = command.parser(__doc__)
    parser.add_argument(
        "--output", type=Path, required=True, help="folder of large.json, large.png and large.md"
    )
    arguments = parser.parse_args(argv)
    arguments.log = arguments.log or arguments.output / "large.log"
    with os.fdopen(os.dup(1), "w") as terminal:
        console = Console(file=terminal, highlight=False)

        def step() -> None:
            machine = record.machine()
            console.print(TITLE)
            measured = measure(arguments.output, console)
            kept = record.record([measured], machine, record.versions())
            write_json(arguments.output / "large.json", kept)
            picture(measured["steps"], arguments.output / "large.png")
            write_bytes(arguments.output / "large.md", document(measured, machine).encode())
            for name in ("large.json", "large.png", "large.md"):
                console.print(f"{arguments.output / name}", style="dim", soft_wrap=True)
            if found := list(problems(measured)):
                raise FoundryError("\n".join(found))

        return command.run(arguments, step)


if __name__ == "__main__":
    raise SystemExit(main())
