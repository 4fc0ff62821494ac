"""Time until the first job starts: `snakemake --dry-run`, and `make` with nothing to do."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pte_foundry.bench import matrix
from pte_foundry.bench.measure import Comparison, Side
from pte_foundry.files import replacing

TITLE = "Planning"
HOW = (
    "Seconds of `snakemake --dry-run` on a generated project with nothing built yet, models x "
    "recipes x targets as in the case, and of `make` on a copy of the default build with nothing "
    "to do. There is no upstream baseline: the growth is of interest. Medians of up to 3 runs; 1 "
    "of the largest. cpu_s: processor time of all processes in the median run. peak_bytes: memory "
    "of the largest process."
)
RUNS = {100: 3, 1_000: 3, 10_000: 1}
LIMIT_S = 1_800  # a longer run is ended, and the benchmark fails
COPIED = (*matrix.PARTS, "Makefile", "results", "benchmarks", ".snakemake")


def comparisons(results: Path, idle: bool = True) -> Iterator[Comparison]:
    """Yields all sizes, and ``make`` with nothing to do if ``idle`` (see :func:`unmeasured`)."""
    for builds, runs in RUNS.items():
        with tempfile.TemporaryDirectory(prefix="planning-") as folder:
            matrix.make(Path(folder), builds)
            command = ["snakemake", "--dry-run", "--cores", "2"]
            taken = [_run(command, Path(folder)) for _ in range(runs)]
        axes = " x ".join(map(str, matrix.SHAPES[builds]))
        jobs = int(re.search(r"^total\s+(\d+)$", taken[0].pop("output"), re.MULTILINE)[1])
        facts = {"builds": builds, "jobs": jobs}
        yield _measured(f"{builds:,} builds ({axes}), {jobs:,} jobs", "--dry-run", taken, facts)
    if idle:
        with _copied(results) as folder:
            taken = [_run(["make", f"PYTHON={sys.executable}"], folder) for _ in range(3)]
        yield _measured("default build, nothing to do", "make", taken, {})


def unmeasured(results: Path) -> str | None:
    """Returns why `make` with nothing to do cannot be measured, or None if it can."""
    if (results / "manifest.json").exists():
        with _copied(results) as folder:
            if "Nothing to be done" in _run(["snakemake", "--dry-run"], folder)["output"]:
                return None
    return "the default configuration is not built completely, so make is not measured (run make)"


def predicted(rows: Iterable[Mapping[str, Any]], builds: float) -> float:
    """Extrapolates processor seconds for ``builds`` linearly from the two smallest sizes."""
    (less, quick), (more, slow) = sorted(_points(rows))[:2]
    return quick + (slow - quick) / (more - less) * (builds - less)


def picture(benchmark: Mapping[str, Any], path: Path) -> None:
    """Draws processor seconds over builds on log scales, and :func:`predicted` as a line; a PNG.

    ``benchmark`` is this benchmark's entry of the record. Snakemake plans in one thread, so
    processor seconds are the wall time on an idle machine, and other load does not distort them.
    """
    import altair as alt

    rows = benchmark["comparisons"]
    points = _points(rows)
    first, last = min(points)[0], max(points)[0]
    steps = [first * (last / first) ** (at / 60) for at in range(61)]
    line = [{"builds": at, "seconds": predicted(rows, at)} for at in steps]
    measured = [
        {"builds": builds, "seconds": seconds, "label": f"{seconds:.3g} s"}
        for builds, seconds in points
    ]
    wide = alt.Scale(type="log", domain=[first / 2, last * 2], nice=False)  # room for labels
    axis = alt.Axis(values=sorted({builds for builds, _ in points}), format=",d")
    x = alt.X("builds:Q", scale=wide, axis=axis, title="builds")
    y = alt.Y(
        "seconds:Q",
        scale=alt.Scale(type="log"),
        axis=alt.Axis(format="~g"),
        title="processor seconds",
    )
    title = {
        "text": "snakemake --dry-run",
        "subtitle": "dots: measured; line: linear growth from the two smallest",
    }
    linear = alt.Chart(alt.Data(values=line)).mark_line(color="#9aa5b1", strokeDash=[5, 4])
    dots = alt.Chart(alt.Data(values=measured)).encode(x=x, y=y)
    labels = dots.mark_text(align="right", dx=-9, dy=-9).encode(text="label:N")
    chart = alt.layer(
        linear.encode(x=x, y=y), dots.mark_point(filled=True, size=90, color="#2fa38c"), labels
    )
    with replacing(path) as temporary:
        drawn = chart.properties(width=420, height=300, title=title)
        drawn.save(str(temporary), format="png", scale_factor=2)


def _points(rows: Iterable[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """Builds and processor seconds of every size."""
    return [
        (row["facts"]["builds"], row["facts"]["cpu_s"])
        for row in rows
        if "builds" in row.get("facts", {})
    ]


def _measured(
    case: str, what: str, taken: list[dict[str, Any]], facts: dict[str, Any]
) -> Comparison:
    side = Side(what, [one["seconds"] for one in taken])
    middle = sorted(taken, key=lambda one: one["seconds"])[len(taken) // 2]
    facts |= {name: middle[name] for name in ("cpu_s", "peak_bytes")}
    return Comparison(case, side, None, facts)


@contextmanager
def _copied(results: Path) -> Iterator[Path]:
    """Copies the project with the folder ``results``, so that no other build runs in it."""
    with tempfile.TemporaryDirectory(prefix="planning-", dir=results.resolve().parent) as name:
        folder = Path(name)
        for part in COPIED:
            source = results.resolve().parent / part
            if source.is_dir():  # hard links, because results are large and are not modified
                shutil.copytree(source, folder / part, copy_function=os.link)
            elif source.exists():
                shutil.copy2(source, folder / part)
        environment = Path(sys.prefix).resolve()
        (folder / ".venvs").symlink_to(environment.parent)
        (folder / ".venv").symlink_to(f".venvs/{environment.name}")
        yield folder


def _run(command: list[str], folder: Path) -> dict[str, Any]:
    """Runs a command; returns ``seconds``, ``cpu_s`` and ``peak_bytes`` with children, ``output``.

    Raises:
        CalledProcessError: with the end of its output.
    """
    search = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": search, "PYTHONPATH": str(folder / "scripts")}
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        running = subprocess.Popen(
            ["timeout", str(LIMIT_S), *command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(running.pid, 0)
        seconds = time.perf_counter() - began
        running.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        printed = output.read()
    if running.returncode:
        raise subprocess.CalledProcessError(running.returncode, command, printed[-3000:])
    return {
        "seconds": seconds,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "output": printed,
    }
