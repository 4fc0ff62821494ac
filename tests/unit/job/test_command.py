"""Protects what a user sees of a failing step, and the environment that feeds the bytes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pte_foundry.job import deterministic_env

ROOT = Path(__file__).resolve().parents[3]

STEP = """
import os, sys
from pte_foundry.job import command
from pte_foundry.errors import FoundryError
def step():
    print("a library talks")
    os.write(2, b"C++ talks\\n")
    {body}
parser = command.parser("")
raise SystemExit(command.run(parser.parse_args(), step, deterministic={deterministic}))
"""


@pytest.fixture
def run(tmp_path):
    def run(body="pass", deterministic=False, options=(), **environment):
        file = tmp_path / "step.py"
        file.write_text(STEP.format(body=body, deterministic=deterministic))
        log = tmp_path / "logs" / "step.log"
        done = subprocess.run(
            [sys.executable, *options, str(file), "--log", str(log)],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")} | environment,
            check=False,
        )
        return done, log.read_text()

    return run


def test_libraries_talk_to_the_log_and_not_to_the_terminal(run):
    done, log = run()
    assert done.returncode == 0
    assert done.stdout == done.stderr == ""
    assert "a library talks" in log
    assert "C++ talks" in log


def test_an_error_of_the_user_is_one_message_without_a_traceback(run):
    done, log = run("raise FoundryError('put a into b')")
    assert done.returncode == 1
    assert done.stderr == "error: put a into b\n"
    assert "Traceback" not in log


def test_a_logger_that_tells_failures_by_the_logs_has_the_terminal_for_itself(run):
    done, log = run("raise FoundryError('put a into b')", FOUNDRY_FAILURES="logged")
    assert (done.returncode, done.stderr) == (1, "")
    assert log.endswith("error: put a into b\n")


def test_an_error_with_a_cause_names_the_log_that_holds_its_traceback(run):
    """The cause is an exception of the user's model, or of a library."""
    raised = "try: {'a': 1}['b']\n    except KeyError as e: raise FoundryError('no forward') from e"
    done, log = run(raised)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no forward (traceback in ")
    assert done.stderr.endswith("step.log)\n")
    assert "KeyError: 'b'" in log
    assert log.count("Traceback") == 2
    assert log.index("KeyError: 'b'") < log.index("FoundryError: no forward")


def test_what_is_no_exception_is_an_error_as_well(run):
    """PanicException of libraries in Rust is a BaseException."""
    done, log = run("raise BaseException('panic')")
    assert done.returncode == 1
    assert done.stderr.startswith("error: BaseException: panic (traceback in ")
    assert "Traceback" in log


@pytest.mark.parametrize(
    ("body", "code"), [("sys.exit(7)", 7), ("sys.exit()", 1), ("sys.exit(0)", 1), ("exit('no')", 1)]
)
def test_an_exit_is_an_error_with_a_traceback(run, body, code):
    """argparse in a library ends the process; without a word nobody finds it."""
    done, log = run(body)
    assert done.returncode == code
    assert done.stderr.startswith("error: the step was ended by sys.exit(")
    assert "Traceback" in log
    assert "in step" in log


def test_an_exception_without_a_message_is_named(run):
    done, log = run("assert not 'a library talks'")
    assert done.stderr.startswith("error: AssertionError (traceback in ")
    assert "assert not 'a library talks'" in log


def test_an_error_of_ours_names_the_log_that_holds_its_traceback(run):
    done, log = run("1 / 0")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ZeroDivisionError")
    assert "step.log" in done.stderr
    assert "Traceback" in log


def test_a_deterministic_step_runs_in_the_fixed_environment_whatever_it_was_started_in(run):
    show = "print({k: os.environ[k] for k in ('OMP_NUM_THREADS', 'PYTHONHASHSEED', 'TZ')})"
    expected = "{'OMP_NUM_THREADS': '1', 'PYTHONHASHSEED': '0', 'TZ': 'UTC'}"
    _, first = run(show, deterministic=True)
    _, second = run(
        show, deterministic=True, OMP_NUM_THREADS="7", PYTHONHASHSEED="5", TZ="Asia/Tokyo"
    )
    assert expected in first
    assert expected in second


def test_a_deterministic_step_rounds_as_a_processor_without_fused_multiply_add(run):
    """glibc's exp differs in the last bit with FMA: the reason for GLIBC_TUNABLES."""
    body = (
        "import hashlib, math, struct; print('digest', hashlib.sha256(b''.join("
        "struct.pack('d', math.exp(i * 3.7e-4)) for i in range(1, 200000))).hexdigest())"
    )
    _, deterministic = run(body, deterministic=True)
    emulated = deterministic_env.ENVIRONMENT["GLIBC_TUNABLES"]
    _, without_fma = run(body, GLIBC_TUNABLES=emulated)
    digests = [
        next(line for line in log.splitlines() if line.startswith("digest"))
        for log in (deterministic, without_fma)
    ]
    assert digests[0] == digests[1]


def test_a_deterministic_step_keeps_the_options_of_its_interpreter(run):
    """With -P, a file of the folder that it runs in hides no package that a model imports."""
    _, log = run("print('safe path', sys.flags.safe_path)", deterministic=True, options=["-P"])
    assert "safe path True" in log
