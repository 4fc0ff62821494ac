"""Snakemake logger plugin: one line for each finished job, with the estimated time left.

Enabled by ``--logger foundry``; ``make`` installs it with the environment. On a terminal the last
line shows the running jobs; in a file or in CI there is none.
"""

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.text import Text
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

from snakemake_logger_plugin_foundry import handover
from snakemake_logger_plugin_foundry.forecast import Forecast, Planned
from snakemake_logger_plugin_foundry.lines import finished_line, running_line
from snakemake_logger_plugin_foundry.progress import Progress

try:
    from pte_foundry.terminal import make_console
    from pte_foundry.upstream.snakemake_configfile import explain_config_files
    from pte_foundry.upstream.snakemake_logger_option import take_targets_after_loggers
except ModuleNotFoundError:  # the rules tell how to install it
    make_console = Console
else:
    # Snakemake imports all plugins when it starts, before it reads arguments and config files.
    explain_config_files()
    take_targets_after_loggers()


def _is_all(rule: str) -> bool:
    """Whether it is the rule of all targets, in a module ``NAME_all``, or Snakemake's total."""
    return rule in ("total", "all") or rule.endswith("_all")


FAILURES = "FOUNDRY_FAILURES"
"""Environment variable; with ``logged`` steps write what is wrong to their log alone, because this
logger tells it in one line."""


@dataclass(frozen=True)
class Job:
    """A running job; ``started`` is a monotonic time in seconds."""

    message: str
    log: str
    started: float


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """The plugin's options; Snakemake requires this name."""

    progress_only: bool = field(
        default=False,
        metadata={
            "help": "Print finished jobs to stdout and no failures, for a run after which another "
            "one fails for the same reasons, and goes on counting where this one ends."
        },
    )


class LogHandler(LogHandlerBase):
    """The plugin's entry point; Snakemake requires this name."""

    def __post_init__(self) -> None:
        self.silent = bool(self.settings and self.settings.progress_only)
        stdout = self.common_settings.stdout or self.silent
        self.console = make_console(stderr=not stdout, highlight=False, **self._colours)
        self.jobs: dict[int, Job] = {}
        self.progress = Progress()
        self.status: Status | None = None
        if not self.common_settings.verbose:
            os.environ[FAILURES] = "logged"

    def expect(self, plan: Mapping[int, tuple[str, str, float, tuple[int, ...]]]) -> None:
        """Takes the jobs of the run, before the first of them starts. The rules call it.

        Args:
            plan: by id of a job: rule, model, expected seconds, and ids of the jobs it waits for.
        """
        if not self.common_settings.dryrun:
            jobs = {number: Planned(*job) for number, job in plan.items()}
            self.progress = Progress(Forecast(jobs, time.monotonic()), handover.take())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._handle(record)
        except Exception:
            self.handleError(record)

    def _handle(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            stats = record.stats.items()
            self.progress.announced = sum(n for rule, n in stats if not _is_all(rule))
        elif event == LogEvent.RESOURCES_INFO:
            self.progress.slots = (
                getattr(record, "cores", None)
                or getattr(record, "nodes", None)
                or self.progress.slots
            )
        elif event == LogEvent.JOB_INFO:
            self._started(record)
        elif event == LogEvent.JOB_FINISHED:
            self._finished(record.job_id)
        elif event == LogEvent.JOB_ERROR:
            self._failed(record)
        elif event == LogEvent.ERROR or (event is None and record.levelno >= logging.WARNING):
            self._print_problem(record)
        elif event is None and record.getMessage().startswith("Nothing to be done"):
            self.console.print("Everything is up to date.")
        self._show()

    def _started(self, record: logging.LogRecord) -> None:
        if _is_all(record.rule_name) or not self.progress.knows(record.jobid):
            return
        message = record.rule_msg or record.rule_name
        log = ", ".join(map(str, record.log))
        self.jobs[record.jobid] = Job(message, log, time.monotonic())
        self.progress.start(record.jobid)
        if self.common_settings.dryrun:
            self.console.print(f"would run: {escape(message)}", soft_wrap=True)
            self.console.print(f"  reason: {escape(record.reason)}", soft_wrap=True)

    def _finished(self, jobid: int) -> None:
        job = self.jobs.pop(jobid, None)
        if job is None:
            return
        self.progress.finish(jobid)
        line = finished_line(
            self.progress.count,
            job.message,
            time.monotonic() - job.started,
            self.progress.seconds_left(),
            self._width,
        )
        self.console.print(line, soft_wrap=True)

    def _failed(self, record: logging.LogRecord) -> None:
        job = self.jobs.pop(record.jobid, None)
        self.progress.fail(record.jobid)
        if job and not self.silent:
            told = getattr(record, "failure", None) or f"{job.message}: see {job.log}"
            self.console.print(f"[red]FAILED[/]  {escape(told)}", soft_wrap=True)

    def _print_problem(self, record: logging.LogRecord) -> None:
        text = record.getMessage().strip()
        # Failed jobs have been printed one by one.
        if (
            not self.silent
            and text
            and not getattr(record, "of_failed_job", False)
            and not text.startswith(("Error in rule", "Exiting because a job execution failed"))
        ):
            # To stderr in a dry run too, whose jobs go to stdout.
            console = make_console(stderr=True, highlight=False, **self._colours)
            console.print(text, markup=False, soft_wrap=True)

    @property
    def _colours(self) -> dict[str, bool]:
        """Options of a console; without ``--nocolor`` it decides by itself."""
        return {"no_color": True} if self.common_settings.nocolor else {}

    @property
    def _width(self) -> int | None:
        """The columns of the terminal; None in a file or in CI."""
        return self.console.width if self.console.is_terminal else None

    def __rich__(self) -> Text:
        """The last line: it is drawn several times a second, also when nothing happens."""
        running = [job.message for job in list(self.jobs.values())]
        # Beside the spinner, and not in the last column, where some terminals wrap.
        return running_line(running, self.progress.seconds_left(), self.console.width - 3)

    def _show(self) -> None:
        if not self.console.is_terminal or self.common_settings.dryrun:
            return
        if self.jobs:
            if self.status is None:
                self.status = self.console.status(self)
                self.status.start()
        elif self.status is not None:
            self.status.stop()
            self.status = None

    def close(self) -> None:
        if self.status is not None:
            self.status.stop()
        if self.silent:
            handover.leave(self.progress.done)
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        return True

    @property
    def writes_to_file(self) -> bool:
        return False

    @property
    def has_filter(self) -> bool:
        return True

    @property
    def has_formatter(self) -> bool:
        return True

    @property
    def needs_rulegraph(self) -> bool:
        return False
