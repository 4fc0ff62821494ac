"""Protects what Snakemake prints about a job: why it runs, and in four lines that it failed."""

import inspect
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from pte_foundry.upstream import snakemake_messages
from pte_foundry.upstream.snakemake_messages import (
    INTERRUPTED,
    ShortMessages,
    describe_changes,
    killed_by,
    short_reason,
    shorten_messages,
)
from snakemake import logging as snakemake_logging
from snakemake import persistence
from snakemake.caching import rule
from snakemake.jobs import Reason
from snakemake.logging import DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent

SCRIPTS = Path(snakemake_messages.__file__).parents[2]
PACKAGES = os.pathsep.join([str(SCRIPTS), str(SCRIPTS / "pte_foundry/progress")])
COMMAND = "python -P -m pte_foundry.steps.lower --output x --log logs/lower/net.log"


def test_rules_that_may_be_cached_are_not_listed_in_every_run():
    assert "Workflow defines that rule {rule.name} is eligible for" in inspect.getsource(rule)
    text = "Workflow defines that rule lower is eligible for caching between workflows"
    assert not ShortMessages().filter(record(None, text))


@pytest.mark.parametrize(
    ("log", "shown"), [("error: no memory\n", True), ("done in 1.0 s\n", False), (None, False)]
)
def test_of_a_failed_group_only_what_told_an_error_is_shown(tmp_path, monkeypatch, log, shown):
    """Snakemake names all of its jobs; ``Job.log_error`` is told of a group by the indent."""
    monkeypatch.chdir(tmp_path)
    made = failure(COMMAND)
    made.indent = True
    (tmp_path / "logs/lower").mkdir(parents=True)
    if log is not None:
        (tmp_path / made.log[0]).write_text(log)
    assert ShortMessages().filter(made) == shown


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("Command 'x' returned non-zero exit status 1.", ""),
        ("Command 'x' returned non-zero exit status 137.", "killed by SIGKILL (out of memory?)"),
        ("Command 'x' returned non-zero exit status 139.", "killed by SIGSEGV"),
        ("Command 'x' returned non-zero exit status 170.", "killed by signal 42"),
        ("Command 'x' died with <Signals.SIGKILL: 9>.", "killed by SIGKILL (out of memory?)"),
        ("Command 'x' died with <Signals.SIGTERM: 15>.", "killed by SIGTERM"),
        ("something else", ""),
    ],
)
def test_a_signal_is_told_from_a_failure(message, told):
    assert killed_by(message) == told


def record(event: LogEvent, text: str = "", **values) -> logging.LogRecord:
    made = logging.LogRecord("snakemake.logging", logging.ERROR, "", 0, text, None, None)
    made.__dict__.update(values, event=event)
    return made


def failure(shellcmd: str) -> logging.LogRecord:
    """What `Job.log_error` logs."""
    return record(
        LogEvent.JOB_ERROR,
        "Error in rule lower",
        rule_name="lower",
        rule_msg=None,
        jobid=7,
        input=["in"] * 9,
        output=["out"],
        log=["logs/lower/net.log"],
        conda_env=None,
        aux={},
        shellcmd=shellcmd,
    )


def started() -> logging.LogRecord:
    return record(LogEvent.JOB_INFO, jobid=7, rule_msg="Lowering net", reason="Forced execution")


def test_a_failed_step_is_told_in_four_lines_with_its_message():
    short, failed = ShortMessages(), failure(COMMAND)
    assert short.filter(started())
    assert short.filter(failed)
    shown = DefaultFormatter().format(failed).splitlines()[1:]  # after the time
    assert shown == [
        "Error in rule lower:",
        "    message: Lowering net",
        "    jobid: 7",
        "    log: logs/lower/net.log (check log file(s) for error details)",
    ]


def test_our_logger_gets_one_line_about_a_failed_step():
    """With its wildcards, which the record of a failed job does not have, and with its killer."""
    short = ShortMessages(lambda *told: repr(told))
    begun = started()
    begun.wildcards = {"model": "net"}
    short.filter(begun)
    text = (
        f"RuleException:\nCalledProcessError:\nCommand '{COMMAND}' died with <Signals.SIGKILL: 9>."
    )
    killed = record(LogEvent.ERROR, text)
    assert short.filter(killed)
    assert killed.of_failed_job
    failed = failure(COMMAND)
    assert short.filter(failed)
    log = "logs/lower/net.log"
    assert failed.failure == repr(("lower", {"model": "net"}, log, short.killed))
    assert short.killed.keys() == {log}


def test_a_job_of_which_nothing_is_known_is_told_too():
    short, failed = ShortMessages(lambda *told: repr(told)), failure(COMMAND)
    failed.log = []
    assert short.filter(failed)
    assert failed.failure == repr(("lower", {}, "", {}))


def test_a_rule_that_is_none_of_ours_is_told_as_before():
    short, failed = ShortMessages(), failure("cp a b")
    before = DefaultFormatter().format(failed).splitlines()[1:]
    assert short.filter(failed)
    assert DefaultFormatter().format(failed).splitlines()[1:] == before
    assert short.filter(record(LogEvent.ERROR, "RuleException:\nCalledProcessError: cp a b"))


def test_the_command_is_not_printed_once_more_unless_a_signal_ended_it():
    text = f"RuleException:\nCalledProcessError in file x, line 1:\nCommand '{COMMAND}' "
    short = ShortMessages()
    assert not short.filter(record(LogEvent.ERROR, text + "returned non-zero exit status 1."))
    assert short.killed == {}
    killed = record(LogEvent.ERROR, text + "died with <Signals.SIGKILL: 9>.")
    assert short.filter(killed)
    assert killed.getMessage() == "error: the step was killed by SIGKILL (out of memory?)"
    assert short.killed == {"logs/lower/net.log": "killed by SIGKILL (out of memory?)"}


def test_other_messages_pass():
    short = ShortMessages()
    for text in ("WorkflowError:\nno", "MissingOutputException in rule x"):
        assert short.filter(record(LogEvent.ERROR, text))
    assert short.filter(logging.LogRecord("x", logging.INFO, "", 0, "text", None, None))


def test_a_reason_names_three_files_of_each_kind():
    """The text is Snakemake's own."""
    reason = Reason()
    reason.missing_output.update({"a"})
    reason.updated_input_run.update(f"in/{n}" for n in range(12))
    assert short_reason(str(reason)) == (
        "Missing output files: a; Input files updated by another job: in/0, in/1, in/10 and 9 more"
    )
    reason.clear()
    reason.updated_input.update(f"in/{n}" for n in range(4))
    assert short_reason(str(reason)) == "Updated input files: in/0, in/1, in/2 and 1 more"
    assert short_reason("Params have changed: code: a, b, c, d") == (
        "Params have changed: code: a, b, c, d"
    )


@pytest.fixture
def logger():
    before, interrupt = list(snakemake_logging.logger.filters), signal.getsignal(signal.SIGINT)
    hook = sys.excepthook
    yield snakemake_logging.logger
    sys.excepthook = hook
    snakemake_logging.logger.filters[:] = before
    signal.signal(signal.SIGINT, interrupt)


def test_after_an_interrupt_no_job_has_failed():
    short = ShortMessages()
    short.interrupted.set()
    request = "Terminating processes on user request, this might take some time."
    told = logging.LogRecord("x", logging.INFO, "", 0, request, None, None)
    assert short.filter(told)
    assert (told.getMessage(), told.levelno) == (INTERRUPTED, logging.WARNING)
    text = f"RuleException:\nCalledProcessError in file x, line 1:\nCommand '{COMMAND}' "
    for dropped in (
        failure(COMMAND),
        failure("cp a b"),
        record(LogEvent.ERROR, text + "died with <Signals.SIGINT: 2>."),
        record(LogEvent.ERROR, "WorkflowError:\nAt least one job did not complete successfully."),
    ):
        assert not short.filter(dropped)
    assert short.filter(record(LogEvent.ERROR, "OSError:\nNo space left on device"))


SNAKEFILE = """
from pte_foundry.upstream.snakemake_messages import shorten_messages
shorten_messages(workflow)
rule fetch:
    output: "out/file"
    log: "fetch.log"
    shell:
        "python -P -m pte_foundry.steps.fetch"
        " --slice {SLICE:q} --root . --output {output} --log {log}"
"""


def test_a_step_that_ends_before_the_interrupt_is_known_has_not_failed(monkeypatch):
    """One in a fork server ends at once, and Snakemake's thread tells of it at once."""
    text = f"RuleException:\nCalledProcessError in file x, line 1:\nCommand '{COMMAND}' "
    ended = text + "died with <Signals.SIGINT: 2>."
    short = ShortMessages()
    threading.Timer(0.1, short.interrupted.set).start()
    assert not short.filter(record(LogEvent.ERROR, ended))
    monkeypatch.setattr(snakemake_messages, "_PATIENCE", 0.1)
    short = ShortMessages()  # a step that somebody else has interrupted
    assert short.filter(told := record(LogEvent.ERROR, ended))
    assert told.getMessage() == "error: the step was killed by SIGINT"


@contextmanager
def waiting_step(folder, *options):
    """A real Snakemake with a real step, which waits for a server that does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        sliced = json.dumps({"url": url, "sha256": "0" * 64})
        (folder / "Snakefile").write_text(f"SLICE = {sliced!r}\n{SNAKEFILE}")
        running = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "1", *options],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": PACKAGES},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # Of tests that run in the background of a shell, interrupts are ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        with silent.accept()[0]:
            yield running


@pytest.mark.parametrize("options", [[], ["--logger", "foundry"]], ids=["plain", "foundry"])
def test_ctrl_c_ends_with_one_line(tmp_path, options):
    with waiting_step(tmp_path, *options) as running:
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does
        told = running.communicate(timeout=60)[1]
    assert running.returncode == 1
    assert INTERRUPTED in told.splitlines()
    assert not re.search("Traceback|FAILED|Error|error|killed", told), told
    assert not list(tmp_path.glob("out/*"))  # the step has cleaned up


def test_ctrl_c_while_planning_ends_with_one_line(tmp_path):
    """Snakemake itself would end with a traceback, of some 40 lines."""
    planning = "import os, signal; os.kill(os.getpid(), signal.SIGINT); rule(name='x')\n"
    for patch in ("", SNAKEFILE.partition("rule")[0]):
        (tmp_path / "Snakefile").write_text(patch + planning)
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", "--cores", "1", "--quiet", "all"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": PACKAGES},
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert done.returncode == -signal.SIGINT
        assert ("Traceback" in done.stderr) == (not patch)
        assert not patch or done.stderr == f"{INTERRUPTED}\n"


def test_a_step_that_the_system_kills_is_told_without_our_logger_too(tmp_path):
    with waiting_step(tmp_path) as running:
        for process in psutil.Process(running.pid).children(recursive=True):
            if "pte_foundry.steps.fetch" in process.cmdline():
                process.kill()
        told = running.communicate(timeout=60)[1]
    assert "error: the step was killed by SIGKILL (out of memory?)" in told.splitlines()
    assert "Traceback" not in told


@pytest.mark.parametrize("verbose", [False, True])
def test_it_is_installed_once_and_changes_nothing_if_verbose(logger, verbose):
    workflow = SimpleNamespace(output_settings=SimpleNamespace(verbose=verbose))
    shorten_messages(workflow)
    installed = shorten_messages(workflow)
    found = [one for one in logger.filters if isinstance(one, ShortMessages)]
    assert found == ([] if verbose else [installed])


def test_snakemake_still_prints_changed_parameters_whole(monkeypatch):
    """If this fails, Snakemake tells which parameter has changed: remove the patch."""
    monkeypatch.undo()
    change = persistence.ParamsChange({"'old'"}, {"'new'"}, {"file"})
    whole = persistence.ParamsChange.__str__
    if whole.__module__ == "snakemake.persistence":  # not patched by another test
        assert "before: 'old' now: 'new'" in str(change)
    monkeypatch.setattr(persistence.ParamsChange, "__str__", whole)
    describe_changes(lambda old, new: f"{sorted(old)} -> {sorted(new)}")
    reason = Reason()
    reason.params_changed = change
    assert str(reason).endswith("since last execution: [\"'old'\"] -> [\"'new'\"]")
    assert str(persistence.NO_PARAMS_CHANGE) == "No params change"
