"""What the commands of the rules share: arguments, log, errors, environment, fork server.

A command module imports nothing heavy at its top, but in its step. By then the log is open for what
libraries print while they load, and the environment is the one that they must find.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pte_foundry.errors import FoundryError
from pte_foundry.job import deterministic_env, resource_usage
from pte_foundry.job.fork_server import BUILDING as BUILDING
from pte_foundry.job.fork_server import EXECUTING as EXECUTING
from pte_foundry.job.fork_server.client import run_in_fork
from pte_foundry.terminal import lines
from pte_foundry.upstream.versions import assert_pinned


def parser(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the options that every step takes."""
    made = argparse.ArgumentParser(description=description, allow_abbrev=False)
    made.add_argument(
        "--log", type=Path, help="file for everything that this step and its libraries print"
    )
    made.add_argument(
        "--benchmark", type=Path, help="file for the step's run time and peak memory, .tsv"
    )
    return made


def run(
    arguments: argparse.Namespace,
    step: Callable[[], None],
    *,
    deterministic: bool = False,
    fork: str | None = None,
) -> int:
    """Runs one step; returns its exit code, 1 after an error, 128 + n after signal n.

    What the step and its libraries print goes to ``--log``. If the step fails, the terminal shows
    one message: of an error that the user can fix the message alone, of any other also its type.
    The log also has the traceback, unless the user can fix the error and it has no cause.

    Args:
        arguments: as parsed by :func:`parser`.
        step: the work; it imports what it needs.
        deterministic: run in :data:`pte_foundry.job.deterministic_env.ENVIRONMENT`.
        fork: run in that environment, and in a fork of a process that has the libraries of this
            kind of steps loaded, if there is one: ``BUILDING`` or ``EXECUTING``
            (:mod:`pte_foundry.job.fork_server`).
    """
    if fork and (code := run_in_fork(fork)) is not None:
        return code if code >= 0 else _report_killed(-code, arguments.log)
    if deterministic or fork:
        deterministic_env.enter()
    with _interruptible(), _printing_to(arguments.log) as terminal:
        logging.basicConfig(
            level=logging.INFO if arguments.log else logging.WARNING,
            format="%(asctime)s %(name)s: %(message)s",
        )
        began = resource_usage.began or time.monotonic()
        try:
            assert_pinned()
            step()
            if arguments.benchmark:
                resource_usage.write(arguments.benchmark, time.monotonic() - began)
        except KeyboardInterrupt:
            raise
        except SystemExit as exit:  # by code that the step runs, or a library; never by a step
            _report(exit, terminal, arguments.log)
            return exit.code if isinstance(exit.code, int) and exit.code else 1
        except BaseException as error:  # a panic of a library in Rust is no Exception
            _report(error, terminal, arguments.log)
            return 1
        logging.info("done in %.1f s", time.monotonic() - began)
    return 0


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lets a step clean up after Ctrl-C. Then the process ends by SIGINT, as a shell expects."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:  # set by pte_foundry.steps
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _report(error: BaseException, terminal: int, log: Path | None) -> None:
    """Writes an error to the log, with the traceback that tells more, and to the terminal."""
    known = isinstance(error, FoundryError)
    where = ""
    if not known or error.__cause__:
        with suppress(OSError):  # a full disk is full for the log as well
            traceback.print_exception(error)
        where = f" (traceback in {log})" if log else ""
    text = str(error) if known else f"{type(error).__name__}: {error}".removesuffix(": ")
    if isinstance(error, SystemExit):
        text = f"the step was ended by sys.exit({error.code!r}) in the code that it runs"
    _say(terminal, f"error: {text}{where}")


FAILURES, LOGGED = "FOUNDRY_FAILURES", "logged"
"""With this variable so, a logger tells failures by what steps write to their logs."""


def _report_killed(number: int, log: Path | None) -> int:
    """Tells which signal ended the child that ran the step; returns the exit code of a shell."""
    hint = " (out of memory?)" if number == signal.SIGKILL else ""
    try:
        name = signal.Signals(number).name
    except ValueError:  # real-time signals have no names
        name = f"signal {number}"
    message = f"error: killed by {name}{hint}"
    if log:
        with suppress(OSError), log.open("a", encoding="utf-8") as file:
            print(message, file=file)
    if not (log and os.environ.get(FAILURES) == LOGGED):
        print(message, file=sys.stderr)
    return 128 + number


def _say(terminal: int, message: str) -> None:
    message = lines(message)  # names from files of others must not control the terminal
    with suppress(OSError):
        print(message, file=sys.stderr, flush=True)
    if terminal != sys.stderr.fileno() and os.environ.get(FAILURES) != LOGGED:
        os.write(terminal, (message + "\n").encode())


@contextmanager
def _printing_to(log: Path | None) -> Iterator[int]:
    """Sends stdout and stderr to ``log``, those of C++ libraries too; yields the old stderr."""
    if log is None:
        yield sys.stderr.fileno()
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    kept_out, kept_err = os.dup(1), os.dup(2)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield kept_err
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os.dup2(kept_out, 1)
        os.dup2(kept_err, 2)
        os.close(kept_out)
        os.close(kept_err)
