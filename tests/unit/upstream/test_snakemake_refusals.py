"""Protects that an error of the user is told without the lines that raise it."""

from contextlib import contextmanager
from pathlib import Path

import pytest
from pte_foundry.upstream.snakemake_refusals import refusal
from snakemake.exceptions import WorkflowError, format_exception_to_string

# Snakemake maps the lines of a Snakefile to those of the code that it makes of it.
LINES = {__file__: dict.fromkeys(range(1, 200), 66)}


@contextmanager
def refusals():
    """A copy of rules/common.smk's: on leaving it, an exception gets a traceback."""
    try:
        yield
    except OSError as error:
        raise refusal(str(error)) from None


def told_with(error) -> str:
    with pytest.raises(WorkflowError) as raised:
        raise error
    return format_exception_to_string(raised.value, LINES)


def test_snakemake_still_tells_the_lines():
    """If this fails, remove the module: raise ``WorkflowError`` itself."""
    assert 'in file "' in told_with(WorkflowError("wrong"))


def test_an_error_is_its_message():
    assert told_with(refusal("line one\nline two")) == "WorkflowError:\nline one\nline two"
    with pytest.raises(WorkflowError) as raised, refusals():
        Path("/no/such/file").read_text()
    told = format_exception_to_string(raised.value, LINES)
    assert told.startswith("WorkflowError:\n")
    assert told.endswith("'/no/such/file'")
    assert len(told.splitlines()) == 2
