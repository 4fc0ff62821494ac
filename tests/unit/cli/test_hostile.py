"""Protects whoever inspects or runs the file of somebody else: one line, whatever the file does.

The commands run as a user runs them, in processes of their own: a crash must not end the tests.
"""

import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from pte_foundry.cli import child, limits
from pte_foundry.cli.main import main
from pte_foundry.limits import Limits
from pte_foundry.terminal import Screen, make_console

from tests.fuzz.mil_programs import MilProgram, ints, number

ESCAPES = "\x1b]0;OWNED\x07\x1b[31mred\x1b[2J\x9b1;1H\u202e"
HARMLESS = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]*")


def isolated(work: str, memory: int = 1 << 30, seconds: float = 20) -> tuple[int | str, str]:
    """What ``child.run`` returns for some code, and what it prints, in a process of its own."""
    code = f"""
import os, signal, sys, time
from pte_foundry.cli import child
from pte_foundry.limits import Limits
child._LIBRARIES = "pte_foundry.errors"  # quick to load
def work():
    {work}
print(repr(child.run(work, Limits({memory}, 10, {seconds}))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    return eval(done.stdout.splitlines()[-1]), done.stderr


def test_the_exit_code_and_the_messages_of_a_child_are_passed_on():
    assert isolated("print('hello', file=sys.stderr); return 3") == (3, "hello\n")


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGFPE", "SIGABRT", "SIGBUS"])
def test_a_crash_is_a_message(name):
    found, said = isolated(
        f"os.write(2, b'free(): invalid pointer'); os.kill(os.getpid(), signal.{name})"
    )
    assert f"crashed a library that computes it ({name})" in found
    assert said == ""


def test_work_without_end_is_stopped():
    found, _ = isolated("time.sleep(60)", seconds=0.1)
    assert "not finished within 0.1 seconds; --max-seconds" in found


def test_memory_without_end_is_an_error_in_the_child():
    work = """
    try:
        held = [bytearray(1 << 28) for _ in range(100)]
    except MemoryError:
        return 5"""
    assert isolated(work)[0] == 5


def test_a_child_that_is_killed_for_memory_is_told():
    assert "lack of memory" in isolated("os.kill(os.getpid(), signal.SIGKILL)")[0]


def test_endless_messages_are_cut():
    found, said = isolated("[os.write(2, b'x' * 1000) for _ in range(3000)]; return 1")
    assert (found, len(said)) == (1, 1 << 20)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    np.save(folder / "x.npy", np.ones(2, np.float32))
    named = MilProgram().input("x")
    named.model.description.metadata.shortDescription = ESCAPES
    named.model.description.metadata.userDefined["k" + ESCAPES] = "v" + ESCAPES
    named.op("relu", [("y" + ESCAPES, "FLOAT32", [2])], x="x")
    named.end("y" + ESCAPES).save(folder / "named.mlpackage")
    unknown = MilProgram().input("x")
    unknown.op("evil" + ESCAPES, [("y", "FLOAT32", [2])], x="x")
    unknown.end("y").save(folder / "unknown.mlpackage")
    large = MilProgram().input("x")
    large.op("fill", [("y", "FLOAT32", None)], shape=ints(10**6, 10**6), value=number(1.0))
    large.end("y").save(folder / "large.mlpackage")
    made = MilProgram().input("x").loop("FLOAT32", [2], "add", x="b", y=number(1.0))
    made.save(folder / "endless.mlpackage")
    os.mkfifo(folder / "pipe.pte")
    return folder


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        (["inspect", "named.mlpackage"], 0, "OWNED"),
        (["inspect", "--json", "named.mlpackage"], 0, "OWNED"),
        (["run", "named.mlpackage", "--input", "x.npy"], 0, "OWNED"),
        (["inspect", "unknown.mlpackage"], 0, "OWNED"),
        (["run", "unknown.mlpackage", "--input", "x.npy"], 1, "unsupported operations: evil\\x1b"),
        (["run", "large.mlpackage", "--input", "x.npy"], 1, "of memory"),
        (["run", "endless.mlpackage", "--max-steps", "99", "--input", "x.npy"], 1, "99 instr"),
        (["inspect", "pipe.pte"], 1, "pipe.pte is not a regular file"),
        (["run", f"no{ESCAPES}.pte"], 1, "no such file"),
        (["run", "large.mlpackage", "--max-memory", ESCAPES], 2, "expected a size"),
        ([f"no{ESCAPES}"], 2, "unknown command"),
    ],
)
def test_nothing_controls_the_terminal(files, monkeypatch, capsys, command, code, text):
    monkeypatch.chdir(files)
    assert main(command) == code
    out, err = capsys.readouterr()
    assert text in out + err
    assert HARMLESS.fullmatch(out + err)
    assert "Traceback" not in err
    if code == 1:
        assert err.startswith("error: ")
        assert err.count("\n") == 1


def test_the_command_line_runs_in_a_child(files):
    """A real one: the limits are those of the options, and the result is that of the child."""
    command = [sys.executable, "-m", "pte_foundry.cli"]
    ran = subprocess.run(
        [*command, "run", "named.mlpackage", "--input", "x.npy", "--output", "o.npz", "--json"],
        cwd=files, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (
        1,
        f"error: {'y' + ESCAPES!r} cannot be the name of a file\n",
    )
    ran = subprocess.run(
        [*command, "run", "large.mlpackage", "--input", "x.npy", "--max-memory", "300M"],
        cwd=files, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == (
        "error: fill 'y' failed: a value of 4000000000000 bytes exceeds the limit of 300000000 "
        "bytes of memory\n"
    )


def test_default_limits_grow_with_what_is_on_disk(tmp_path):
    import argparse

    parser = argparse.ArgumentParser()
    limits.add_limits(parser)
    small, sparse = tmp_path / "small", tmp_path / "sparse"
    small.write_bytes(bytes(10 << 20))
    sparse.touch()
    os.truncate(sparse, 1 << 40)

    def of(path, *options):
        return limits.limits_of(argparse.Namespace(file=path, **vars(parser.parse_args(options))))

    assert of(small).memory == (4 << 30) + 16 * (10 << 20)
    assert of(small).seconds == 80
    assert of(sparse).memory == 4 << 30
    given = of(sparse, "--max-memory", "1.5G", "--max-seconds", "7", "--max-steps", "9")
    assert given == Limits(15 * 10**8, 9, 7)


def test_a_screen_escapes_and_a_console_keeps_its_colours(capsys):
    screen = Screen(sys.stdout)
    screen.write("a\x1b[31m\tb\n\x7f")
    assert capsys.readouterr().out == "a\\x1b[31m\tb\n\\u007f"
    console = make_console(force_terminal=True, color_system="standard", highlight=False)
    console.print("[red]x[/]\x1b]0;t\x07")
    assert capsys.readouterr().out == "\x1b[31mx\x1b[0m\\x1b]0;t\n"


def test_a_signal_has_a_message():
    for number_ in (signal.SIGSEGV, signal.SIGALRM, signal.SIGKILL, signal.SIGTERM, 40):
        assert child._describe(number_, Limits())
