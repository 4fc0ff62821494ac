"""Protects what a user sees of a run: one count, lines that fit, one line a failure."""

import io
import logging
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(
    0, str(Path(__file__).resolve().parents[3] / "scripts" / "pte_foundry" / "progress")
)

import snakemake_logger_plugin_foundry as plugin
from rich.console import Console
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_logger_plugin_foundry import handover
from snakemake_logger_plugin_foundry.lines import clock, finished_line, running_line, shortened

LONG = "Comparing the layers of mobilenet_v2/int8_static_per_channel/ios17_ne with fp32"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (245, "4:05"), (3723, "1:02:03")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_a_line_tells_all_if_it_has_the_room():
    shown = finished_line("  7/115", "Exporting minilm", 12, 600, 80).plain
    assert shown == "  7/115  Exporting minilm  0:12, about 10:00 left"


def test_the_time_left_goes_first_then_the_middle_of_the_message():
    message = "Lowering digits_cnn/int8_static for ios17-float16-8eb842df"
    assert finished_line(" 7/31", message, 3, 47, 80).plain == f" 7/31  {message}  0:03"
    assert (
        finished_line(" 7/31", LONG, 3, 47, None).plain == f" 7/31  {LONG}  0:03, about 0:47 left"
    )
    shown = finished_line(" 7/31", LONG, 3, 47, 60).plain
    assert len(shown) == 60
    assert shown.endswith("with fp32  0:03")
    assert "…" in shown


@pytest.mark.parametrize("width", range(1, 90, 4))
def test_no_line_is_longer_than_the_terminal(width):
    running = [LONG, "Exporting minilm", LONG]
    for left in (None, 10.0, 40_000.0):
        assert len(running_line(running, left, width).plain) <= width
        if width >= 24:
            assert len(finished_line("  7/115", LONG, 3723, left, width).plain) <= width
    assert len(shortened(LONG, width)) == min(width, len(LONG))


def test_the_last_line_shows_as_many_jobs_as_fit():
    running = ["Exporting minilm", "Exporting vit", "Exporting digits_cnn"]
    assert running_line(running, 61, 80).plain == "about 1:01 left · " + " · ".join(running)
    assert running_line(running, None, 45).plain == "Exporting minilm · Exporting vit · 1 more"
    assert running_line(running, None, 40).plain == "Exporting minilm · 2 more"


@pytest.fixture
def handler(monkeypatch, tmp_path):
    """A logger that prints into ``handler.shown``, as into a terminal or a file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(plugin.FAILURES, raising=False)
    (tmp_path / ".snakemake").mkdir()

    def make(terminal=False, progress_only=False, **settings):
        settings = {
            "stdout": False,
            "dryrun": False,
            "verbose": False,
            "nocolor": False,
            **settings,
        }
        made = plugin.LogHandler(
            SimpleNamespace(**settings), plugin.LogHandlerSettings(progress_only=progress_only)
        )
        made.shown = io.StringIO()
        made.console = Console(
            file=made.shown,
            force_terminal=terminal,
            width=80,
            highlight=False,
            legacy_windows=False,
        )
        return made

    yield make
    os.environ.pop(plugin.FAILURES, None)  # the handler sets it


def send(handler, event, level=logging.INFO, **values):
    record = logging.makeLogRecord({"msg": "", "levelno": level, "event": event, **values})
    handler.emit(record)


def run(handler, *jobs: int, rule="lower") -> None:
    for job in jobs:
        send(handler, LogEvent.JOB_INFO, jobid=job, rule_name=rule, rule_msg=f"Job {job}", log=[])
        send(handler, LogEvent.JOB_FINISHED, job_id=job)


PLAN = dict.fromkeys(range(4), ("lower", "minilm", 60.0, ()))


def test_a_run_tells_the_time_left_from_its_first_job_on(handler):
    made = handler()
    made.expect({**PLAN, 0: ("fetch", "minilm", 0.0, ())})
    send(made, LogEvent.RESOURCES_INFO, cores=3)
    run(made, 0)
    found = re.fullmatch(r"1/4  Job 0  0:00, about (\d:\d\d) left\n", made.shown.getvalue())
    assert found
    assert "0:50" < found[1] < "1:10", "three jobs of a minute, on three cores"


def test_rules_that_only_collect_files_are_not_counted(handler):
    made = handler()
    made.expect({0: PLAN[0]})
    run(made, 0)
    run(made, 7, rule="structure")
    assert made.shown.getvalue() == "1/1  Job 0  0:00\n"


def test_a_finished_job_is_in_the_estimate_of_its_own_line(handler):
    """The last line of a terminal asks several times a second, and gets the same until then."""
    made = handler()
    made.expect({0: PLAN[0]})
    assert made.progress.seconds_left() == made.progress.seconds_left() > 60
    run(made, 0)
    assert made.shown.getvalue() == "1/1  Job 0  0:00\n"


def test_rules_that_plan_nothing_are_counted(handler):
    made = handler()
    send(made, LogEvent.RUN_INFO, stats={"lower": 2, "all": 1, "total": 3})
    run(made, 0, 1)
    run(made, 2, rule="all")
    assert made.shown.getvalue() == "1/2  Job 0  0:00\n2/2  Job 1  0:00\n"


def test_the_second_run_of_a_make_goes_on_counting(handler):
    first = handler(progress_only=True)
    first.expect(PLAN)
    run(first, 0, 1)
    first.close()
    second = handler()
    second.expect({2: PLAN[2], 3: PLAN[3]})
    run(second, 2, 3)
    lines = (first.shown.getvalue() + second.shown.getvalue()).splitlines()
    assert [line[:3] for line in lines] == ["1/4", "2/4", "3/4", "4/4"]
    assert handover.take() == 0, "only the next run goes on"


@pytest.mark.parametrize(
    "left", ['{"done": 2, "group": -1}', "{}", "[]", "null", "", '{"done": null, "group": 0}']
)
def test_what_another_make_or_a_damaged_file_says_does_not_count(handler, left):
    handler()
    handover.FILE.write_text(left)
    assert handover.take() == 0
    assert not handover.FILE.exists()


def test_a_run_that_cannot_write_its_count_ends_well(handler):
    made = handler(progress_only=True)
    Path(".snakemake").rmdir()
    made.close()


def fail(handler, **values):
    run(handler, 0)
    send(
        handler,
        LogEvent.JOB_INFO,
        jobid=1,
        rule_name="export",
        rule_msg="Exporting vit",
        log=["logs/export/vit.log"],
    )
    send(handler, LogEvent.JOB_ERROR, logging.ERROR, jobid=1, **values)


def test_a_failure_is_one_line_with_the_cause(handler):
    made = handler()
    made.expect(PLAN)
    fail(made, failure="vit: export failed: no [luck] (log: logs/export/vit.log)")
    assert made.shown.getvalue().splitlines()[1:] == [
        "FAILED  vit: export failed: no [luck] (log: logs/export/vit.log)"
    ]


def test_other_rules_have_their_log_named(handler):
    made = handler()
    fail(made)
    assert made.shown.getvalue().endswith("FAILED  Exporting vit: see logs/export/vit.log\n")


def test_a_run_that_another_one_repeats_tells_no_failure(handler):
    made = handler(progress_only=True)
    fail(made, failure="x")
    assert "FAILED" not in made.shown.getvalue()


def test_what_killed_a_step_is_not_told_twice(handler, capsys):
    made = handler()
    text = "error: the step was killed by SIGKILL (out of memory?)"
    send(made, LogEvent.ERROR, logging.ERROR, msg=text, of_failed_job=True)
    assert capsys.readouterr().err == ""
    send(made, LogEvent.ERROR, logging.ERROR, msg=text)
    assert capsys.readouterr().err == f"{text}\n"


def test_colours_are_for_terminals_only(handler):
    for terminal in (False, True):
        made = handler(terminal)
        made.expect(PLAN)
        made.progress.slots = 1
        run(made, 0)
        made.close()
        assert ("\x1b[" in made.shown.getvalue()) is terminal


@pytest.mark.parametrize(("verbose", "value"), [(False, "logged"), (True, None)])
def test_steps_leave_failures_to_this_logger_unless_its_rules_are_verbose(handler, verbose, value):
    """With --verbose the rules do not say what has failed: the steps do."""
    handler(verbose=verbose)
    assert os.environ.get(plugin.FAILURES) == value
