"""Sweeps every operator of Core ML's frontend and writes the table; half an hour on two cores."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from pte_foundry.canonical_json import digest
from pte_foundry.files import replacing
from pte_foundry.job import command
from pte_foundry.lock import LIBRARY, lock_file, locked_versions

if TYPE_CHECKING:
    from pte_foundry.bench.operators.sweep import Both

TABLE = LIBRARY / "lowering" / "OPERATORS.md"
LIBRARIES = ("coremltools", "executorch", "torch")


def main(argv: list[str] | None = None) -> int:
    """Runs the sweep, or goes on with one that was interrupted."""
    parser = command.parser(__doc__)
    parser.add_argument("--table", type=Path, default=TABLE, help="the Markdown file to write")
    parser.add_argument(
        "--results",
        type=Path,
        required=True,
        help="a file of results, one line each: programs in it are not run again, unless the code "
        "of the pipeline has changed",
    )
    parser.add_argument("--only", nargs="*", help="operators, such as max; writes no table")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="at a time")
    arguments = parser.parse_args(argv)
    arguments.log = arguments.log or arguments.results.with_suffix(".log")
    with os.fdopen(os.dup(1), "w") as terminal:  # what libraries print goes to the log
        console = Console(file=terminal, highlight=False)
        return command.run(arguments, lambda: sweep(arguments, console), deterministic=True)


def sweep(arguments: argparse.Namespace, console: Console) -> None:
    """Runs the programs that have no result yet, and writes the table."""
    from pte_foundry.bench.operators import patterns, table
    from pte_foundry.bench.operators.sweep import outcomes, verdict

    programs = {
        (operator, label, precision): pattern
        for (operator, label), pattern in patterns.all_patterns().items()
        for precision in table.PRECISIONS
        if not arguments.only or operator in arguments.only
    }
    code, baseline = _digests()
    digests = {key: pattern.digest() for key, pattern in programs.items()}
    done, known = {}, {}
    for entry, key, result in _entries(arguments.results):
        if entry["pattern"] != digests.get(key):
            continue
        if entry["code"] == code:
            done[key] = result
        if result.upstream and entry["baseline"] == baseline:
            known[key] = result.upstream
    remaining = {key: pattern for key, pattern in programs.items() if key not in done}
    console.print(f"{len(programs)} programs, {len(done)} of them done before")
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    with arguments.results.open("a", encoding="utf-8") as file:
        for key, result in outcomes(remaining, known, arguments.processes):
            done[key] = result
            depends = {"code": code, "baseline": baseline, "pattern": digests[key]}
            entry = {"key": key, **depends, **asdict(result)}
            file.write(f"{json.dumps(entry)}\n")
            file.flush()
            found = verdict(key, result)
            if found.outcome in table.BAD or arguments.only:
                line = f"{found.outcome}: {' | '.join(key)}: {found.detail}"
                console.print(line, markup=False, soft_wrap=True)
    if arguments.only:
        return
    versions = {name: locked_versions(lock_file())[name] for name in LIBRARIES}
    verdicts = {key: verdict(key, done[key]) for key in sorted(done)}
    with replacing(arguments.table) as path:
        path.write_text(table.render(verdicts, patterns.NO_PROGRAM, versions), encoding="utf-8")
    console.print(f"{arguments.table}", style="dim", soft_wrap=True)


def _digests() -> tuple[str, str]:
    """Returns digests of what our outcomes depend on beside patterns, and of what upstream's do."""
    from pte_foundry.workflow.code import closure, contents

    def of(*modules: str) -> str:
        files = closure(*(f"pte_foundry.{module}" for module in modules))
        return digest(contents(files, lock_file()))

    return of("lowering.coreml", "pte"), of("pte")


def _entries(path: Path) -> Iterator[tuple[dict, tuple, Both]]:
    """Yields the entries of a file of results, with their keys and results."""
    from pte_foundry.bench.operators.sweep import Both

    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in lines:
        with suppress(json.JSONDecodeError):  # a line that was cut off
            entry = json.loads(line)
            yield entry, tuple(entry["key"]), Both.read(entry)


if __name__ == "__main__":
    raise SystemExit(main())
