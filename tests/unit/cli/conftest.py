"""What the tests of the commands share: the packages of the interpreter's tests, and a summary."""

from pathlib import Path

import pytest
import yaml
from pte_foundry.cli import main, new
from pte_foundry.config.config import load
from pte_foundry.files import write_json
from pte_foundry.report.summary import summarize

from tests.made_up_reports import reports
from tests.mil.conftest import *  # noqa: F403


@pytest.fixture
def call(capsys):
    """Runs the command; gives exit code, stdout and stderr."""

    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def call_new(tmp_path, monkeypatch, capsys):
    """Runs ``pte-foundry new`` in an empty folder; gives its exit code and all that it prints."""
    monkeypatch.chdir(tmp_path)
    # Else the rest of the run would have no warnings.
    monkeypatch.setattr(new.logging, "disable", lambda level: None)

    def call_new(*arguments):
        code = main(["new", *map(str, arguments)])
        return code, "".join(capsys.readouterr())

    return call_new


@pytest.fixture
def entry():
    """Gives the entry of a model, in a config without errors."""

    def entry(name="net", file="mine.yaml"):
        load([Path(file).absolute()], Path.cwd())
        return yaml.safe_load(Path(file).read_text())["models"][name]

    return entry


@pytest.fixture
def summary(tmp_path):
    """The path of ``results/summary.json`` in a folder: some builds, of which one has failed."""
    made = summarize(reports())
    assert made["totals"]["failed"]
    path = tmp_path / "results" / "summary.json"
    path.parent.mkdir()
    write_json(path, made)
    return path
