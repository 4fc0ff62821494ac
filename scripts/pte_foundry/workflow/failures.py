"""The end of a run in which jobs failed: summary and page of what there is, and every failure once.

The rules `summary` and `report` wait for all builds, so they do not run then. What is written here
in their place is dated before its inputs: the next run makes it again.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pte_foundry.errors import DamagedError
from pte_foundry.files import read_json, replacing, write_json
from pte_foundry.report.failures import failure_of
from pte_foundry.report.summary import FailedBuild, report_path, summarize
from pte_foundry.upstream.snakemake_storage import Storage, StorageError
from pte_foundry.validate.check import problems
from pte_foundry.workflow.slices import report, shown_settings
from pte_foundry.workflow.stages import STAGES
from pte_foundry.workflow.storage_claim import conclude

if TYPE_CHECKING:
    from pte_foundry.config.config import Build, Config
    from pte_foundry.place import Folder
    from pte_foundry.report.schema import BuildError, Summary
    from pte_foundry.upstream.snakemake_outcome import FailedJob, Outcome

SUMMARY = "results/summary.json"
MANIFEST = "results/manifest.json"
PAGE = "results/report/index.html"
GATES = "results/gates.json"
REPORTS = "results/validation/"

STOPPED = (
    "not built: Snakemake was stopped before, or it ran without --keep-going and another job had "
    "failed. Run it again to continue."
)
SILENT = (
    "ended without a message: it was killed, for example because there was no memory left, or its "
    "environment is incomplete"
)

_MESSAGE = "error: "  # of pte_foundry.job.command, the last thing in a failed step's log
_LONGEST = 64 * 1024  # bytes at the end of a log in which the message is looked for
_UNBOUNDED = 10_000  # characters a line, where the output is no terminal
_UNWRITTEN = "The summary and the page of this run could not be written"
# Which wildcards tell what a job works on, in this order.
_SUBJECT = ("model", "recipe", "program", "name", "target", "device")
_ORDER = {stage: position for position, stage in enumerate(STAGES)}


def message_of(log: Path, since: float) -> str | None:
    """Returns the error message at the end of a failed step's log, or None.

    Args:
        log: the log file.
        since: when the run began, in seconds since 1970; an older log is that of another run.
    """
    try:
        if log.stat().st_mtime < since:
            return None
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LONGEST))
            text = "\n" + file.read().decode(errors="replace")
    except OSError:
        return None
    _, found, message = text.rpartition(f"\n{_MESSAGE}")
    # The log is named beside the message.
    return message.strip().removesuffix(f" (traceback in {log})") if found else None


@dataclass(frozen=True)
class FailedRun:
    """A run of a configuration in which jobs failed.

    Attributes:
        config: the configuration.
        outcome: what the run has not done.
        since: when it began, in seconds since 1970.
        killed: what killed a step, by its log, as far as known.
        place: where the results are.
        written: the files that :meth:`write` has written.
    """

    config: Config
    outcome: Outcome
    since: float
    killed: Mapping[str, str]
    place: Folder | Storage
    written: list[str] = field(default_factory=list)

    def conclude(self) -> list[str]:
        """Writes what there is to show, and prints every failure once.

        Nothing that goes wrong here hides the failures of the run.

        Returns:
            The files that were written. Snakemake must forget how it made them before.
        """
        from pte_foundry.report import table
        from pte_foundry.terminal import make_console

        console = make_console(stderr=True, highlight=False, markup=False, emoji=False)
        if not console.is_terminal:
            console.width = _UNBOUNDED
        console.print()
        told = self.outcome.failed
        if {SUMMARY, PAGE, GATES} & self.outcome.unmade:
            try:
                summary = self.write()
                page = self.place.target(PAGE)
                here = page.exists() and not self.place.stored  # else it is about to be moved
                table.render(summary, console, page if here else None)
                told = [job for job in told if not _in_table(job)]
                if isinstance(self.place, Storage):
                    conclude(self.place, Path.cwd(), self.written)
            except (OSError, StorageError) as error:
                console.print(f"{_UNWRITTEN}: {error}")
            except Exception:
                traceback.print_exc()
                console.print(f"{_UNWRITTEN}.")
        for job in told:
            table.print_failure(console, failure_of(self.error_of(job)).line)
        if isinstance(self.place, Storage):
            console.print(
                f"Results and logs are in {self.place.prefix}, copies of this run's logs in "
                f"{self.place.base}"
            )
        return self.written

    def error_of(self, job: FailedJob) -> BuildError:
        """Returns what the summary has about a failed job."""
        log = self._log(job.log) if job.log else None
        # The storage dates its files by its own clock.
        stored = self.place.stored
        message = (message_of(log, 0 if stored else self.since) if log else None) or SILENT
        if str(log) in self.killed and (stored or message == SILENT):
            message = self.killed[str(log)]
        # An exported program that no recipe compresses is called _float.
        named = (job.wildcards.get(name, "") for name in _SUBJECT)
        return {
            "stage": job.rule,
            "message": message,
            "log": self.place.shown(job.log) if job.log else "",
            "subject": "/".join(name for name in named if name and not name.startswith("_")),
        }

    def write(self) -> Summary:
        """Writes summary and page, if the run had to and did not. Returns the summary.

        A manifest and a ``gates.json`` that the run had to write and did not are deleted: they
        would be about artifacts that do not exist or have other contents.
        """
        unmade = self.outcome.unmade
        for name in {MANIFEST, GATES} & unmade:
            self.place.remove(name)
        if SUMMARY in unmade:
            summary = self.summary()
            write_json(self.place.target(SUMMARY), summary)
            self._date(SUMMARY)
        else:
            summary = read_json(self.place.path(SUMMARY))
        if PAGE in unmade:
            with replacing(self.place.target(PAGE)) as temporary:
                temporary.write_text(self._page(summary), encoding="utf-8")
            self._date(PAGE)
        return summary

    def summary(self) -> Summary:
        """Returns the summary: one record per build.

        A report is used only if this run has made it or did not have to: one of an earlier run does
        not vouch for what was to be built now.
        """
        cause: dict[str, BuildError] = {}
        for job in sorted(self.outcome.failed, key=lambda job: _ORDER.get(job.rule, len(_ORDER))):
            error = self.error_of(job)
            for file in job.stops:
                cause.setdefault(file, error)
        reports: dict[str, Any] = {}
        failed: list[FailedBuild] = []
        for build in self.config.builds:
            for path in self._reports_of(build):
                error = cause.get(path)
                if error is None and path in self.outcome.unmade:
                    error = {"stage": "validate", "message": STOPPED, "log": ""}
                error = error or _read(self.place.path(path), path, reports)
                if error is not None:
                    failed.append(self._failed(build, error))
        return summarize(reports, failed)

    def _reports_of(self, build: Build) -> list[str]:
        names = build.model, build.recipe, build.target
        return [report_path(*names, device) for device in sorted(self.config.devices)]

    def _failed(self, build: Build, error: BuildError) -> FailedBuild:
        return FailedBuild(
            {"model": build.model, "recipe": build.recipe, "target": build.target},
            self.config.recipes[build.recipe].scheme,
            shown_settings(self.config, build.target),
            error,
        )

    def _page(self, summary: Summary) -> str:
        from pte_foundry.report.page import render  # loads the plotting library

        manifest = None
        with suppress(DamagedError):
            manifest = read_json(self.place.path(MANIFEST))
        divergence = dict(self._divergence(summary)) if self.config.divergence else None
        return render(summary, manifest, divergence, report(self.config)["models"])

    def _divergence(self, summary: Summary) -> Iterator[tuple[str, Any]]:
        for build in summary["builds"]:
            path = "results/divergence/{model}/{recipe}/{target}.json".format(**build["build"])
            if path not in self.outcome.unmade:
                with suppress(DamagedError):
                    yield build["paths"]["pte"], read_json(self.place.path(path))

    def _log(self, name: str) -> Path:
        log = self.place.target(name)
        if not log.exists():  # with a storage, the job may have run elsewhere
            with suppress(StorageError):
                return self.place.path(name)
        return log

    def _date(self, file: str) -> None:
        """Dates a file before all that it is made from, so that the next run makes it again."""
        self.written.append(file)
        if self.place.stored:
            return
        inputs = [path for build in self.config.builds for path in self._reports_of(build)]
        inputs += [f"results/plan/{model}.json" for model in self.config.built_models]
        paths = map(self.place.path, [*inputs, file])
        date = min(path.stat().st_mtime for path in paths if path.exists()) - 10
        os.utime(self.place.target(file), (date, date))


def _read(path: Path, name: str, reports: dict[str, Any]) -> BuildError | None:
    """Reads a report into ``reports``, or returns what is wrong with it."""
    try:
        report = read_json(path)
    except DamagedError as error:
        return {"stage": "validate", "message": str(error), "log": ""}
    if found := problems(report):
        return {"stage": "validate", "message": f"{name}: {'; '.join(found)}", "log": ""}
    reports[name] = report
    return None


def _in_table(job: FailedJob) -> bool:
    """Whether the table tells of a job: it stops builds, or it is the check of their gates."""
    return job.rule == "gates" or any(file.startswith(REPORTS) for file in job.stops)
