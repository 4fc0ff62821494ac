"""Snakemake logger plugin: one line for each finished job, with the estimated time left.

Enabled by ``--logger foundry``; ``make`` installs it with the environment. On a terminal the last
line shows the running jobs; in a file or in CI there is none.
"""

import logging
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

try:
    from pte_foundry.terminal import make_console
    from pte_foundry.upstream.snakemake_configfile import explain_config_files
except ModuleNotFoundError:  # the rules tell how to install it
    make_console = Console
else:
    # Snakemake imports all plugins when it starts, before it reads config files.
    explain_config_files()


def _is_all(rule: str) -> bool:
    """Whether it is the rule of all targets, in a module ``NAME_all``, or Snakemake's total."""
    return rule in ("total", "all") or rule.endswith("_all")


@dataclass(frozen=True)
class Job:
    """A running job; ``started`` is a monotonic time in seconds."""

    rule: str
    message: str
    log: str
    started: float


class Pace:
    """Progress of a run, and an estimate of the time left from the jobs finished so far.

    Args:
        jobs: number of jobs to run, by rule.
        now: monotonic time in seconds at which the run starts.
    """

    def __init__(self, jobs: dict[str, int], now: float) -> None:
        self.left = Counter(jobs)
        self.total = sum(jobs.values())
        self._started = now
        self._seconds: dict[str, list[float]] = defaultdict(list)

    @property
    def done(self) -> int:
        """Number of finished jobs."""
        return self.total - sum(self.left.values())

    def finish(self, rule: str, seconds: float) -> None:
        """Records a finished job and its run time."""
        self.left[rule] -= 1
        self._seconds[rule].append(seconds)

    def seconds_left(self, now: float) -> float | None:
        """Estimates the time left in seconds; ``None`` until a job has finished.

        Jobs of a rule without finished jobs count as the mean of all finished jobs.
        """
        seen = [s for of_rule in self._seconds.values() for s in of_rule]
        if not seen or now <= self._started:
            return None
        mean = sum(seen) / len(seen)
        work = sum(
            count
            * (sum(self._seconds[rule]) / len(self._seconds[rule]) if self._seconds[rule] else mean)
            for rule, count in self.left.items()
        )
        parallel_jobs = max(1.0, sum(seen) / (now - self._started))
        return work / parallel_jobs


def clock(seconds: float) -> str:
    """Formats a duration: ``4:05`` or ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """The plugin's options; Snakemake requires this name."""

    progress_only: bool = field(
        default=False,
        metadata={
            "help": "Print finished jobs to stdout and no failures, for a run after which another "
            "one fails for the same reasons."
        },
    )


class LogHandler(LogHandlerBase):
    """The plugin's entry point; Snakemake requires this name."""

    def __post_init__(self) -> None:
        self.silent = bool(self.settings and self.settings.progress_only)
        stdout = self.common_settings.stdout or self.silent
        self.console = make_console(stderr=not stdout, highlight=False)
        self.jobs: dict[int, Job] = {}
        self.pace: Pace | None = None
        self.status: Status | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._handle(record)
        except Exception:
            self.handleError(record)

    def _handle(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            jobs = {rule: n for rule, n in record.stats.items() if not _is_all(rule)}
            self.pace = Pace(jobs, time.monotonic())
        elif event == LogEvent.JOB_INFO:
            message = record.rule_msg or record.rule_name
            log = ", ".join(map(str, record.log))
            self.jobs[record.jobid] = Job(record.rule_name, message, log, time.monotonic())
            if self.common_settings.dryrun and not _is_all(record.rule_name):
                self.console.print(f"would run: {escape(message)}", soft_wrap=True)
                self.console.print(f"  reason: {escape(record.reason)}", soft_wrap=True)
        elif event == LogEvent.JOB_FINISHED:
            self._finished(record.job_id)
        elif event == LogEvent.JOB_ERROR:
            job = self.jobs.pop(record.jobid, None)
            if job and not self.silent:
                failed = f"[red]FAILED[/]  {escape(job.message)}: see {escape(job.log)}"
                self.console.print(failed, soft_wrap=True)
        elif event == LogEvent.ERROR or (event is None and record.levelno >= logging.WARNING):
            self._print_problem(record)
        elif event is None and record.getMessage().startswith("Nothing to be done"):
            self.console.print("Everything is up to date.")
        self._show()

    def _print_problem(self, record: logging.LogRecord) -> None:
        text = record.getMessage().strip()
        # Failed jobs have been printed one by one.
        if (
            not self.silent
            and text
            and not text.startswith(("Error in rule", "Exiting because a job execution failed"))
        ):
            # To stderr in a dry run too, whose jobs go to stdout.
            make_console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)

    def _finished(self, jobid: int) -> None:
        job = self.jobs.pop(jobid, None)
        if job is None or self.pace is None or _is_all(job.rule):
            return
        seconds = time.monotonic() - job.started
        self.pace.finish(job.rule, seconds)
        left = self.pace.seconds_left(time.monotonic())
        count = f"{self.pace.done:>{len(str(self.pace.total))}}/{self.pace.total}"
        ending = "" if self.pace.done == self.pace.total else f", about {clock(left)} left"
        self.console.print(
            f"[green]{count}[/]  {escape(job.message)}  [dim]{clock(seconds)}{ending}[/]",
            soft_wrap=True,
        )

    def _show(self) -> None:
        if not self.console.is_terminal or self.common_settings.dryrun:
            return
        running = [job.message for job in self.jobs.values() if not _is_all(job.rule)]
        if running:
            text = escape(" · ".join(running))
            if self.status is None:
                self.status = self.console.status(text)
                self.status.start()
            self.status.update(text)
        elif self.status is not None:
            self.status.stop()
            self.status = None

    def close(self) -> None:
        if self.status is not None:
            self.status.stop()
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
