"""The end of a run in which jobs failed: summary and page of what there is, and every failure once.

The rules `summary` and `report` wait for all builds, so they do not run then. What is written here
in their place is marked as older than its inputs: the next run makes it again.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pte_foundry.errors import DamagedError
from pte_foundry.files import read_json, replacing, write_json
from pte_foundry.report.failures import failure_of
from pte_foundry.report.summary import FailedBuild, summarize
from pte_foundry.validate.check import problems
from pte_foundry.workflow.slices import shown_settings
from pte_foundry.workflow.stages import STAGES

if TYPE_CHECKING:
    from rich.console import Console

    from pte_foundry.config.config import Build, Config
    from pte_foundry.report.schema import BuildError, Summary
    from pte_foundry.upstream.snakemake_outcome import FailedJob, Outcome

SUMMARY = "results/summary.json"
MANIFEST = "results/manifest.json"
PAGE = "results/report/index.html"

STOPPED = (
    "not built: Snakemake stopped after another job had failed. With --keep-going it builds what "
    "does not depend on that job."
)
SILENT = (
    "ended without a message: it was killed, for example because there was no memory left, or its "
    "environment is incomplete"
)

_UNBOUNDED = 10_000  # characters a line, where the output is no terminal
_MESSAGE = "error: "  # of pte_foundry.job.command, the last thing in a failed step's log
_LONGEST = 64 * 1024  # bytes at the end of a log in which the message is looked for
# Which wildcards tell what a job works on, in this order.
_SUBJECT = ("model", "recipe", "program", "name", "target", "device")


def message_of(log: Path, since: float) -> str:
    """Returns the error message at the end of a failed step's log.

    Args:
        log: the log file.
        since: when the run began, in seconds since 1970; an older log is that of another run.
    """
    try:
        if log.stat().st_mtime < since:
            return SILENT
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LONGEST))
            text = "\n" + file.read().decode(errors="replace")
    except OSError:
        return SILENT
    _, found, message = text.rpartition(f"\n{_MESSAGE}")
    # The log is named beside the message.
    return message.strip().removesuffix(f" (traceback in {log})") if found else SILENT


def error_of(job: FailedJob, since: float) -> BuildError:
    """Returns what the summary has about a failed job; ``since`` is when the run began."""
    # An exported program that no recipe compresses is called _float.
    named = (job.wildcards.get(name, "") for name in _SUBJECT)
    return {
        "stage": job.rule,
        "message": message_of(Path(job.log), since) if job.log else SILENT,
        "log": job.log,
        "subject": "/".join(name for name in named if name and not name.startswith("_")),
    }


def partial_summary(config: Config, run: Outcome, since: float) -> Summary:
    """Returns the summary of a run that failed: one record per build.

    A report is used only if this run has made it or did not have to: one of an earlier run does not
    vouch for what was to be built now.

    Args:
        config: the configuration.
        run: what the run has not done.
        since: when it began, in seconds since 1970.
    """
    position = {stage: at for at, stage in enumerate(STAGES)}
    jobs = sorted(run.failed, key=lambda job: position.get(job.rule, len(position)))
    cause: dict[str, BuildError] = {}
    for job in jobs:
        error = error_of(job, since)
        for file in job.stops:
            cause.setdefault(file, error)
    reports: dict[str, Any] = {}
    failed: list[FailedBuild] = []
    for build in config.builds:
        for device in sorted(config.devices):
            path = report_path(build, device)
            found = cause.get(path)
            if found is None and path in run.unmade:
                found = {"stage": "validate", "message": STOPPED, "log": ""}
            if found is None:
                found = _read(path, reports)
            if found is not None:
                failed.append(_failed(config, build, found))
    return summarize(reports, failed)


def report_path(build: Build, device: str) -> str:
    """Returns the path of a validation report."""
    return f"results/validation/{build.model}/{build.recipe}/{build.target}/{device}.json"


def _read(path: str, reports: dict[str, Any]) -> BuildError | None:
    """Reads a report into ``reports``, or returns what is wrong with it."""
    try:
        report = read_json(Path(path))
    except DamagedError as error:
        return {"stage": "validate", "message": str(error), "log": ""}
    if found := problems(report):
        return {"stage": "validate", "message": f"{path}: {'; '.join(found)}", "log": ""}
    reports[path] = report
    return None


def _failed(config: Config, build: Build, error: BuildError) -> FailedBuild:
    return FailedBuild(
        {"model": build.model, "recipe": build.recipe, "target": build.target},
        config.recipes[build.recipe].scheme,
        shown_settings(config, build.target),
        error,
    )


def other_failures(run: Outcome, since: float) -> list[BuildError]:
    """Returns the errors of failed jobs that stop no build, such as a plan or the manifest."""
    return [
        error_of(job, since)
        for job in run.failed
        if job.rule != "gates"  # the table has the missed gates
        and not any(file.startswith("results/validation/") for file in job.stops)
    ]


def conclude(config: Config, run: Outcome, since: float) -> list[str]:
    """Writes what there is to show of a run that failed, and prints every failure once.

    Nothing that goes wrong here hides the failures of the run.

    Args:
        config: the configuration.
        run: what the run has not done.
        since: when it began, in seconds since 1970.

    Returns:
        The files that were written. Snakemake must forget how it made them before.
    """
    from rich.console import Console

    from pte_foundry.report import table

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _UNBOUNDED
    written: list[str] = []
    console.print()
    if {SUMMARY, PAGE, "results/gates.json"} & run.unmade:
        try:
            summary = write_partial(config, run, since, written)
            page = Path(PAGE)
            table.render(summary, console, page if page.exists() else None)
        except Exception as error:
            traceback.print_exc()
            console.print(f"The summary of this run could not be written: {error}")
            _print_all(console, run, since)
        else:
            for error in other_failures(run, since):
                table.print_failure(console, failure_of(error).line)
    else:
        _print_all(console, run, since)
    return written


def _print_all(console: Console, run: Outcome, since: float) -> None:
    from pte_foundry.report.table import print_failure

    for job in run.failed:
        print_failure(console, failure_of(error_of(job, since)).line)


def write_partial(config: Config, run: Outcome, since: float, written: list[str]) -> Summary:
    """Writes summary and page of a run that failed, as far as they were asked for.

    A manifest that this run had to write and did not is deleted: it would list artifacts that do
    not exist or have other contents.

    Args:
        config: the configuration.
        run: what the run has not done.
        since: when it began, in seconds since 1970.
        written: takes the paths of the files as they are written.
    """
    if MANIFEST in run.unmade:
        Path(MANIFEST).unlink(missing_ok=True)
    if SUMMARY in run.unmade:
        summary = partial_summary(config, run, since)
        write_json(Path(SUMMARY), summary)
        _make_old(config, SUMMARY, written)
    else:
        summary = read_json(Path(SUMMARY))
    if PAGE in run.unmade:
        _write_page(config, run, summary)
        _make_old(config, PAGE, written)
    return summary


def _write_page(config: Config, run: Outcome, summary: Summary) -> None:
    from pte_foundry.report.page import render  # loads the plotting library

    manifest = None
    with suppress(DamagedError):
        manifest = read_json(Path(MANIFEST))
    divergence = dict(_divergence(run, summary)) if config.divergence else None
    page = render(summary, manifest, divergence)
    with replacing(Path(PAGE)) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _divergence(run: Outcome, summary: Summary) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for build in summary["builds"]:
        path = "results/divergence/{model}/{recipe}/{target}.json".format(**build["build"])
        if path not in run.unmade:
            with suppress(DamagedError):
                yield build["paths"]["pte"], read_json(Path(path))


def _make_old(config: Config, file: str, written: list[str]) -> None:
    """Dates a file before all that it is made from, so that the next run makes it again."""
    inputs = [report_path(build, device) for build in config.builds for device in config.devices]
    inputs += [f"results/plan/{model}.json" for model in config.built_models]
    dates = [path.stat().st_mtime for path in map(Path, [*inputs, file]) if path.exists()]
    date = min(dates) - 10
    os.utime(file, (date, date))
    written.append(file)
