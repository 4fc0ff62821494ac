"""Protects both loaders and execution: a short run of the fuzzer, and every file it has found.

``make fuzz`` runs 100,000 files.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import __main__ as fuzz
from tests.fuzz.mil_programs import MilProgram
from tests.project import ROOT

CASES = 500


def test_random_files_end_in_typed_errors(tmp_path):
    """In a process of its own, whose children are limited: it may crash."""
    for path in fuzz.FOUND.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "tests.fuzz", "--cases", str(CASES), "--found", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    for kind in fuzz.KINDS:
        line = next(line for line in done.stdout.splitlines() if line.startswith(kind))
        # Some get through all checks, or the fuzzer tests but the first of them.
        assert "'ok'" in line
        assert "'ProgramError'" in line


def test_what_is_found_is_kept_and_replayed(tmp_path, monkeypatch, capfd):
    """The fuzzer itself: an untyped error, a crash and a hang are each a file and a failure."""
    import os
    import time

    data = MilProgram().input("x").end("x").bytes()
    faults = {
        "untyped": lambda *_: 1 // 0,
        "crash": lambda *_: os.kill(os.getpid(), 9),
        "hang": lambda *_: time.sleep(60),
    }
    monkeypatch.setattr(fuzz, "_SECONDS", 1)
    for name, fault in faults.items():
        folder = tmp_path / name
        monkeypatch.setattr(fuzz.cases, "run", fault)
        monkeypatch.setattr(fuzz.strategies, "programs", lambda _: fuzz.strategies.st.just(data))
        assert fuzz._child("mil", 0, 1, folder, fuzz.Counter()) == 1
        assert [path.read_bytes() for path in folder.iterdir()] == [data]
        assert fuzz.replay(folder) == 1
        monkeypatch.undo()
        monkeypatch.setattr(fuzz, "_SECONDS", 1)
        assert fuzz.replay(folder) == 0
    capfd.readouterr()


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_the_same_seed_gives_the_same_files(kind):
    import random

    from tests.fuzz import strategies

    make = {"mil": strategies._mil, "pte": strategies._pte}[kind]
    assert [make(random.Random(7)) for _ in range(3)] == [make(random.Random(7)) for _ in range(3)]


def test_found_files_stay_small():
    assert sum(path.stat().st_size for path in Path(fuzz.FOUND).glob("*")) < 200_000
