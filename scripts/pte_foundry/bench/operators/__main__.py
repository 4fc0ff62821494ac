"""Sweeps every operator of Core ML's frontend and writes the table; half an hour on two cores."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from pte_foundry.files import replacing
from pte_foundry.job import command
from pte_foundry.lock import LIBRARY, lock_file, locked_versions

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
    """Runs the programs that have no result yet; raises if one is wrong."""
    from pte_foundry.bench.operators import patterns, table
    from pte_foundry.bench.operators.sweep import outcomes
    from pte_foundry.workflow.code import closure, digest

    code = digest(closure("pte_foundry.bench.operators.sweep"), lock_file())
    programs = {
        (operator, label, precision): pattern
        for (operator, label), pattern in patterns.all_patterns().items()
        for precision in table.PRECISIONS
        if not arguments.only or operator in arguments.only
    }
    done = {key: result for key, result in _read(arguments.results, code) if key in programs}
    remaining = {key: pattern for key, pattern in programs.items() if key not in done}
    console.print(f"{len(programs)} programs, {len(done)} of them done before")
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    with arguments.results.open("a", encoding="utf-8") as file:
        for key, result in outcomes(remaining, arguments.processes):
            done[key] = result
            file.write(json.dumps({"code": code, "key": key, **asdict(result)}) + "\n")
            file.flush()
            if result.outcome in table.BAD or arguments.only:
                console.print(
                    f"{result.outcome}: {', '.join(key)}: {result.detail}", soft_wrap=True
                )
    if arguments.only:
        return
    versions = {name: locked_versions(lock_file())[name] for name in LIBRARIES}
    text = table.render(dict(sorted(done.items())), patterns.NO_PROGRAM, versions)
    with replacing(arguments.table) as path:
        path.write_text(text, encoding="utf-8")
    console.print(f"{arguments.table}", style="dim", soft_wrap=True)


def _read(path: Path, code: str) -> list:
    from pte_foundry.bench.operators.program import Result

    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    entries = [json.loads(line) for line in lines if line.endswith("}")]
    return [
        (tuple(e["key"]), Result(e["outcome"], e["detail"], tuple(e["seen"])))
        for e in entries
        if e["code"] == code
    ]


if __name__ == "__main__":
    raise SystemExit(main())
