"""Protects that a stage has one name: of its rule, command, table entry, log and benchmark."""

import re

import pytest
from pte_foundry.workflow.code import entry
from pte_foundry.workflow.stages import STAGES

from tests.project import ROOT

RULE = re.compile(r"^rule (\w+):\n(.*?)(?=^\w|\Z)", re.MULTILINE | re.DOTALL)
# The folder of validation reports is fixed, and nouns read better than the verbs.
FOLDERS = {"validate": "validation", "diverge": "divergence"}
LONGEST = 34  # lines
# What takes long and has the same bytes on every machine. No artifact is among them.
CACHED = {"fetch", "train", "export", "calibrate", "convert", "edge", "lower"}


def rules() -> dict[str, str]:
    return {
        name: body
        for file in sorted((ROOT / "rules").glob("*.smk"))
        for name, body in RULE.findall(file.read_text(encoding="utf-8"))
    }


def test_rules_stages_and_commands_have_the_same_names():
    commands = {path.stem for path in entry("lower").parent.glob("[a-z]*.py")}
    assert rules().keys() == STAGES.keys() == commands


@pytest.mark.parametrize(("name", "body"), rules().items())
def test_a_rule_runs_the_command_of_its_name(name, body):
    folder = FOLDERS.get(name, name)
    assert f'"python -P -m pte_foundry.steps.{name}"' in body
    assert f'code=code_files("{name}")' in body
    assert f'code("{name}")' in body or f'_code("{name}")' in body
    assert f'mem_mb=memory("{name}")' in body
    assert f'runtime=runtime("{name}")' in body
    assert ('cache: "omit-software"' in body) == (name in CACHED)
    assert ("priority:" in body) == bool(STAGES[name].priority)
    assert f'"logs/{folder}' in body
    assert "\n    benchmark:" not in body, "it cannot measure what the fork server runs"
    assert "benchmark=" not in body or f'benchmark="benchmarks/{folder}' in body
    assert ("benchmark=" in body) == ("--benchmark {output.benchmark:q}" in body)
    assert re.search(r'message:\n\s+"[A-Z].*[^.]"', body)
    assert not re.search(r"\b(run|script):", body)
    assert body.rstrip().count("\n") < LONGEST, "a rule fits on a screen"
