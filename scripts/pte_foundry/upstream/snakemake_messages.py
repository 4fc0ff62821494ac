"""Makes Snakemake's messages about our jobs short and exact.

Stands against: snakemake 9.27.1
Repairs: ``ParamsChange.__str__`` (``persistence/__init__.py``), the reason of a job whose
    parameters have changed. It prints them whole, here two digests or two slices of the config.
    ``logger`` (``logging.py``), which has some 20 lines about a failed job: the command twice, all
    inputs and outputs, and ``message: None``. The step has printed what is wrong by then. In the
    reason of a job it names all files. After Ctrl-C it tells that every job has failed, or, while
    it plans, a traceback. Of a group that failed it names all jobs, also those that ended well or
    did not start.
Remove when: a reason shows which parameter changed, and a rule can give the text of its failure.
"""

import logging
import re
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from pte_foundry.upstream.versions import require

INTERRUPTED = "Interrupted. Run it again to continue."

Describe = Callable[[set[str], set[str]], str]
"""Takes the representations (``repr``) of the parameters that were and that are."""

Tell = Callable[[str, Mapping[str, str], str, Mapping[str, str]], str]
"""Takes rule, wildcards and log of a failed job, and what killed steps, by their logs."""

_CACHEABLE = "Workflow defines that rule "
_OURS = " -m pte_foundry.steps."
_KILLED = re.compile(r"died with <Signals\.(\w+)|non-zero exit status (\d+)")
_FILES = re.compile(
    r"((?:Missing output|Incomplete output|Updated input) files: |Input files updated by another "
    r"job: )([^;]+)"
)
_NAMED = 3
_PATIENCE = 1.0  # seconds
# What Snakemake says about the jobs that an interrupt has ended, and about the whole run.
_ENDED = ("RuleException:\nCalledProcessError", "WorkflowError:\nAt least one job did not complete")
_LOG = re.compile(r" --log '?([^\s']+)")


def killed_by(message: str) -> str:
    """Returns what killed a step, or an empty string if no signal did.

    Args:
        message: the message of the ``subprocess.CalledProcessError``.
    """
    found = _KILLED.search(message)
    if found is None:
        return ""
    name, status = found.groups()
    if status and int(status) > 128:  # how a shell reports a signal
        try:
            name = signal.Signals(int(status) - 128).name
        except ValueError:  # real-time signals have no names
            name = f"signal {int(status) - 128}"
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}" if name else ""


def short_reason(reason: str) -> str:
    """Returns a job's reason with at most three files of each kind: the summary has thousands."""
    return _FILES.sub(lambda found: found[1] + _some(found[2].split(", ")), reason)


def _told(logs: list[str]) -> bool:
    """Whether a step has told in its log what is wrong."""
    return any(
        b"\nerror: " in b"\n" + Path(log).read_bytes() for log in logs if Path(log).is_file()
    )


def _some(files: list[str]) -> str:
    more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
    return ", ".join(sorted(files)[:_NAMED]) + more


class ShortMessages(logging.Filter):
    """Shortens the reasons of jobs, and what a failed step has told by itself.

    The record of a failed job gets ``failure``, one line about it, for our own logger.

    Attributes:
        tell: returns that line.
        killed: what killed a step, by its log.
        interrupted: set when the user has pressed Ctrl-C. Then jobs end, and none has failed.
    """

    def __init__(self, tell: Tell | None = None) -> None:
        super().__init__()
        self.interrupted = threading.Event()
        self.killed: dict[str, str] = {}
        self.tell = tell
        self._jobs: dict[int, tuple[str, Mapping[str, str]]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        event = getattr(getattr(record, "event", None), "value", None)
        if self.interrupted.is_set():
            return self._only_interrupt(event, record)
        if event == "job_info":
            wildcards = getattr(record, "wildcards", None) or {}
            self._jobs[record.jobid] = record.rule_msg, dict(wildcards)
            record.reason = short_reason(record.reason)
        elif event == "job_error" and getattr(record, "indent", False) and not _told(record.log):
            return False  # of a group
        elif event == "job_error" and _OURS in (record.shellcmd or ""):
            record.rule_msg, wildcards = self._jobs.get(record.jobid, (None, {}))
            if self.tell:
                log = next(map(str, record.log), "")
                record.failure = self.tell(record.rule_name, wildcards, log, self.killed)
            record.shellcmd, record.input, record.output = None, [], []
        elif event == "error":
            return self._shorten(record)
        elif event is None:  # in every run, for each rule that may be cached
            return not record.getMessage().startswith(_CACHEABLE)
        return True

    def _only_interrupt(self, event: str | None, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if text.startswith("Terminating processes on user request"):
            record.msg, record.args = INTERRUPTED, None
            record.levelno, record.levelname = logging.WARNING, "WARNING"  # for all loggers
        return event != "job_error" and not text.startswith(_ENDED)

    def watch_interrupts(self) -> None:
        """Learns of Ctrl-C before the jobs that it ends are told."""
        _end_without_traceback(self.interrupted)
        before = signal.getsignal(signal.SIGINT)
        if before is not signal.default_int_handler:
            return  # ignored, or of a program that runs Snakemake

        def interrupt(number: int, frame: FrameType | None) -> None:
            self.interrupted.set()
            before(number, frame)

        with suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGINT, interrupt)

    def _shorten(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if not text.startswith("RuleException:\nCalledProcessError") or _OURS not in text:
            return True
        reason = killed_by(text)
        if "SIGINT" in reason and self.interrupted.wait(_PATIENCE):
            return False  # a step that ends at once may do so before this process knows why
        if reason:
            if log := _LOG.search(text):
                self.killed[log[1]] = reason
            record.msg, record.args = f"error: the step was {reason}", None
            record.of_failed_job = True
        return bool(reason)


def _end_without_traceback(interrupted: threading.Event) -> None:
    """Lets an interrupt that Snakemake does not expect end this process with one line.

    A library in Rust may make another exception of it.
    """
    before = sys.excepthook

    def end(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        if kind is KeyboardInterrupt or interrupted.is_set():
            print(INTERRUPTED, file=sys.stderr)
        else:
            before(kind, error, where)

    sys.excepthook = end


def shorten_messages(workflow: Any, tell: Tell | None = None) -> ShortMessages:
    """Installs a :class:`ShortMessages`, once per process; with ``--verbose`` it changes nothing.

    Args:
        workflow: the ``workflow`` of a Snakefile.
        tell: returns a line about a failed job.
    """
    from snakemake import logging as messages

    logger = require(messages, "logger", patch=__name__)
    for installed in list(logger.filters):
        if isinstance(installed, ShortMessages):
            logger.removeFilter(installed)
    made = ShortMessages(tell)
    settings = require(workflow, "output_settings", patch=__name__)
    if not require(settings, "verbose", patch=__name__):
        logger.addFilter(made)
        made.watch_interrupts()
    return made


def describe_changes(describe: Describe) -> None:
    """Shows changed parameters in the reasons of jobs as ``describe`` has them."""
    from snakemake.persistence import ParamsChange

    def text(self: Any) -> str:
        return describe(self.only_old, self.only_new) if self else "No params change"

    require(ParamsChange, "__str__", "self", patch=__name__)
    ParamsChange.__str__ = text
