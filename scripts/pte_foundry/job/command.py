"""What the commands behind the rules have in common: arguments, log, errors, environment.

A command module imports nothing heavy at its top, but in its step: by then the log is open for what
libraries print as they load, and the environment is the one that they must find.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pte_foundry.errors import FoundryError
from pte_foundry.job import deterministic_env, resource_usage
from pte_foundry.job.fork_server import NATIVE, PORTABLE
from pte_foundry.job.fork_server.client import hand_over
from pte_foundry.upstream.versions import assert_pinned

if TYPE_CHECKING:
    pass


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every stage takes."""
    made = argparse.ArgumentParser(description=description, allow_abbrev=False)
    made.add_argument(
        "--log", type=Path, help="file for everything that this step and its libraries print"
    )
    made.add_argument("--benchmark", type=Path, help="file for what this step costs, .tsv")
    return made


def run(
    arguments: argparse.Namespace,
    step: Callable[[], None],
    *,
    deterministic: bool = False,
    fork: bool = False,
) -> int:
    """Runs one step; its exit code is 0, or 1 after an error.

    With ``deterministic`` the step runs in :data:`pte_foundry.job.deterministic_env.ENVIRONMENT`. What the step and its
    libraries print goes to ``--log``; the terminal sees one message if the step fails: the message
    alone if the user can mend the cause, else the exception and where its traceback is.

    With ``fork`` the step runs in a fork of a process that has the libraries loaded, if there is
    one (:mod:`pte_foundry.job.fork_server`).
    """
    if fork and (code := hand_over(PORTABLE if deterministic else NATIVE)) is not None:
        return code
    if deterministic:
        deterministic_env.enter()
    with _printing_to(arguments.log) as terminal:
        logging.basicConfig(
            level=logging.INFO if arguments.log else logging.WARNING,
            format="%(asctime)s %(name)s: %(message)s",
        )
        began = time.monotonic()
        try:
            assert_pinned()
            step()
            if arguments.benchmark:
                resource_usage.write(arguments.benchmark, time.monotonic() - began)
        except FoundryError as error:
            _say(terminal, f"error: {error}")
            return 1
        except Exception as error:
            with suppress(OSError):  # a disk that is full is full for the log as well
                traceback.print_exc()
            where = f" (traceback in {arguments.log})" if arguments.log else ""
            _say(terminal, f"error: {type(error).__name__}: {error}{where}")
            return 1
        logging.info("done in %.1f s", time.monotonic() - began)
    return 0


def _say(terminal: int, message: str) -> None:
    print(message, file=sys.stderr, flush=True)
    if terminal != sys.stderr.fileno():
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
