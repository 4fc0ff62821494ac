"""Errors of the user, or of the disk, that Snakemake tells by their messages alone.

Stands against: snakemake 9.27.1
Repairs: ``format_exception_to_string`` (``exceptions.py``), which adds the lines of the Snakefile
    and of what it calls, in which an error was raised. They say nothing of a mistake in a config.
Remove when: a ``WorkflowError`` can be raised without the place where that is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snakemake.exceptions import WorkflowError


def refusal(message: str) -> WorkflowError:
    """Returns an error to raise from a Snakefile, or from a handler of a run."""
    from snakemake.exceptions import WorkflowError

    # Python and context managers set a traceback, from which Snakemake takes the lines.
    hidden = property(lambda error: None, lambda error, traceback: None)
    return type("WorkflowError", (WorkflowError,), {"__traceback__": hidden})(message)
