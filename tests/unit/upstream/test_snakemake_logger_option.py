"""Protects that ``snakemake --logger foundry TARGET`` makes the target."""

import inspect
import sys

import pytest
from pte_foundry.upstream.snakemake_logger_option import separated, take_targets_after_loggers
from snakemake.cli import get_argument_parser
from snakemake.common.argparse import ArgumentParser

GIVEN = ["--logger", "foundry", "results/a.pte", "--cores", "2"]


@pytest.fixture
def upstream(monkeypatch):
    """What Snakemake has without the repair, which the logger plugin may have installed."""
    plain = inspect.unwrap(ArgumentParser.parse_known_args)
    monkeypatch.setattr(ArgumentParser, "parse_known_args", plain)
    return plain


def test_upstream_still_takes_a_target_for_a_logger(upstream, capsys):
    """If this fails, the repair can go."""
    parser = get_argument_parser()  # imports the logger, which installs the repair
    ArgumentParser.parse_known_args = upstream
    with pytest.raises(SystemExit):
        parser.parse_args(GIVEN)
    assert "argument --logger: invalid choice: 'results/a.pte'" in capsys.readouterr().err


def test_a_target_after_a_logger_is_a_target(upstream, monkeypatch):
    parser = get_argument_parser()
    take_targets_after_loggers()
    take_targets_after_loggers()
    monkeypatch.setattr(sys, "argv", ["snakemake", *GIVEN])
    for arguments in (GIVEN, None):
        given = parser.parse_args(arguments)
        assert (given.logger, given.targets, given.cores) == (["foundry"], ["results/a.pte"], 2)
    given = parser.parse_args(["a", "--logger", "foundry", "--cores", "2"])
    assert (given.logger, given.targets) == (["foundry"], ["a"])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--logger a b x y -n -- z", "--logger a b -n -- x y z"),
        ("--logger a x", "--logger a -- x"),
        ("--logger a b", None),
        ("--logger x", None),  # which may be misspelt
        ("--logger", None),
        ("x --logger a -n", None),
        ("-n -- --logger a x", None),
        ("--logger-a-option 1 x", None),
    ],
)
def test_all_else_is_parsed_as_before(given, expected):
    assert separated(given.split(), ["a", "b"]) == (expected or given).split()
