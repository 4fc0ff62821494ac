"""Protects slices of any length: as arguments they are short, and other slices differ."""

import argparse
import random
import subprocess
import sys

import pytest
from pte_foundry.canonical_json import canonical
from pte_foundry.files import read_json
from pte_foundry.job.arguments import slice_argument
from pte_foundry.slice_argument import STORE, decoded, encoded

LONGEST_ARGUMENT = 128 * 1024  # MAX_ARG_STRLEN of Linux


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(count: int) -> dict:
    """Settings by module that no compression makes short."""
    numbers = random.Random(0)
    return {f"layer.{n}": {"name": numbers.randbytes(60).hex()} for n in range(count)}


def test_a_short_slice_is_the_argument_itself(folder):
    assert encoded({"b": 1, "a": [None, 0.5]}) == '{"a":[null,0.5],"b":1}'
    assert decoded('{"a":[null,0.5],"b":1}') == {"b": 1, "a": [None, 0.5]}
    assert not list(folder.iterdir())


@pytest.mark.parametrize("count", [500, 5000])
def test_a_long_slice_is_a_short_argument(count):
    long = settings(count)
    assert len(canonical(long)) > LONGEST_ARGUMENT / 2
    assert len(encoded(long)) < 100
    assert decoded(encoded(long)) == long


def test_one_value_makes_another_argument():
    """Snakemake compares the arguments to decide about rebuilding."""
    changed = settings(500) | {"layer.7": None}
    assert (
        encoded(changed) != encoded(settings(500)) == encoded(dict(reversed(settings(500).items())))
    )


@pytest.mark.parametrize("damage", ["", "{}", None])
def test_a_file_that_was_damaged_is_refused_and_written_again(damage):
    argument = encoded(settings(100))
    (path,) = STORE.iterdir()
    path.unlink() if damage is None else path.write_text(damage)
    with pytest.raises(argparse.ArgumentTypeError, match=r"slices/.*\.json is damaged"):
        slice_argument(argument)
    assert encoded(settings(100)) == argument
    assert decoded(argument) == settings(100)


@pytest.mark.parametrize("argument", ["{", "", "file:", "file:../../etc/passwd", "zlib:AAAA"])
def test_what_is_no_slice_is_refused(argument):
    with pytest.raises(argparse.ArgumentTypeError, match="not a slice of the config"):
        slice_argument(argument)


def test_a_step_takes_a_slice_that_no_command_line_could_hold(folder):
    step = [sys.executable, "-P", "-m", "pte_foundry.steps.plan", "--output", "plan.json"]
    slices = f"--slice {encoded(settings(5000))}"
    # Through a shell, as Snakemake starts it: the whole command is one argument.
    command = ["bash", "-c", f"{' '.join(step)} {slices}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert read_json(folder / "plan.json") == settings(5000)
