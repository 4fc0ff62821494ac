"""Protects the line that tells of a failed job: model, recipe, stage, cause and log."""

import pytest
from pte_foundry.place import Folder
from pte_foundry.workflow.failure_line import failure_line

LOG = "logs/lower/vit/lut4/ios18.log"
NAMES = {"model": "vit", "recipe": "lut4", "key": "ios18-float16-a0"}


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        (
            "loading\nerror: config/models/vit.py:3: put a into b\n",
            "config/models/vit.py:3: put a into b",
        ),
        (f"error: KeyError: 'a' (traceback in {LOG})\n", "KeyError: 'a'"),
        ("error: many\n    lines\n", "many lines"),
        (f"error: {'x' * 9999}\n", f"{'x' * 600} …"),
        ("error: an earlier one\nerror: the last\n", "the last"),
    ],
)
def test_the_cause_is_the_last_message_of_the_log(tmp_path, monkeypatch, log, cause):
    monkeypatch.chdir(tmp_path)
    (tmp_path / LOG).parent.mkdir(parents=True)
    (tmp_path / LOG).write_text(log)
    told = failure_line(Folder(), 0.0, "lower", NAMES, LOG, {LOG: "killed by SIGKILL"})
    assert told == f"vit/lut4: lower failed: {cause} (log: {LOG})"


def test_a_step_that_was_killed_has_left_no_message():
    killed = {"logs/export/vit.log": "killed by SIGKILL (out of memory?)"}
    told = failure_line(Folder(), 0.0, "export", {"model": "vit"}, "logs/export/vit.log", killed)
    assert told == (
        "vit: export failed: killed by SIGKILL (out of memory?) (log: logs/export/vit.log)"
    )


def test_nothing_is_known_about_a_job_without_a_log():
    told = failure_line(Folder(), 0.0, "gates", {}, "", {})
    assert told.startswith("gates failed: ended without a message")
    assert told.endswith("incomplete")
