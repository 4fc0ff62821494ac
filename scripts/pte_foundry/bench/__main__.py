"""Benchmarks pte-foundry against upstream, side by side; takes about 25 minutes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from pte_foundry.bench import (
    builds,
    generation,
    interpreter,
    job_memory,
    jobs,
    palettization,
    planning,
    preparation,
    record,
    show,
)
from pte_foundry.files import write_json
from pte_foundry.job import command

if TYPE_CHECKING:
    from pte_foundry.bench.measure import Comparison


def measure(results: Path, console: Console) -> dict:
    """Runs every benchmark; returns the document of ``pte_foundry.bench.record.record``.

    Args:
        results: folder of the build whose artifacts are measured.
        console: where progress is printed.
    """

    def shown(comparisons: Iterator[Comparison]) -> Iterator[Comparison]:
        for comparison in comparisons:
            console.print(f"  {comparison.case}", style="dim", highlight=False)
            yield comparison

    machine = record.machine()  # first, so that its load average is without the benchmarks'
    done = []
    for module in (builds, jobs, preparation, palettization):
        console.print(module.TITLE)
        done.append(record.benchmark(module.TITLE, module.HOW, shown(module.comparisons())))
    console.print(interpreter.TITLE)
    absent = interpreter.missing(results)
    skipped = None
    if absent:
        models = ", ".join(absent)
        skipped = f"not built, so not measured: {models} (run make, or build config/full.yaml)"
    compared = shown(interpreter.comparisons(results))
    done.append(record.benchmark(interpreter.TITLE, interpreter.HOW, compared, skipped))
    console.print(generation.TITLE)
    written = list(shown(generation.comparisons(results)))
    skipped = None if written else "no decoder is built (run make CONFIG=config/llm.yaml)"
    done.append(record.benchmark(generation.TITLE, generation.HOW, written, skipped))
    console.print(planning.TITLE)
    skipped = planning.unmeasured(results)
    compared = shown(planning.comparisons(results, idle=skipped is None))
    done.append(record.benchmark(planning.TITLE, planning.HOW, compared, skipped))
    console.print(job_memory.TITLE)
    stages = job_memory.stages(results)
    skipped = None if stages else "nothing is built, so there is nothing to compare (run make)"
    entry = record.benchmark(job_memory.TITLE, job_memory.HOW, [], skipped)
    done.append(entry | {"stages": stages})
    return record.record(done, machine, record.versions())


def main(argv: list[str] | None = None) -> int:
    """Measures, then writes the record and the pictures and prints the table."""
    parser = command.parser(__doc__)
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder of bench.json, two pictures and bench.log, in the results folder of a build",
    )
    arguments = parser.parse_args(argv)
    arguments.log = arguments.log or arguments.output / "bench.log"
    # The console stays on the terminal while the output of libraries goes to the log.
    with os.fdopen(os.dup(1), "w") as terminal:
        console = Console(file=terminal, highlight=False)

        def step() -> None:
            measured = measure(arguments.output.parent, console)
            write_json(arguments.output / "bench.json", measured)
            show.picture(measured, arguments.output / "bench.png")
            (planned,) = (one for one in measured["benchmarks"] if one["title"] == planning.TITLE)
            planning.picture(planned, arguments.output / "planning.png")
            show.table(measured, console)
            for name in ("bench.json", "bench.png", "planning.png"):
                console.print(f"{arguments.output / name}", style="dim", soft_wrap=True)

        return command.run(arguments, step)


if __name__ == "__main__":
    raise SystemExit(main())
