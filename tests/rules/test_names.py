"""Protects that a step has one name: of its rule, module, log and benchmark."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RULE = re.compile(r"^rule (\w+):\n(.*?)(?=^\w|\Z)", re.MULTILINE | re.DOTALL)
# The folder of validation reports is fixed, and nouns read better than the verbs.
FOLDERS = {"validate": "validation", "diverge": "divergence"}


def rules() -> dict[str, str]:
    return {
        name: body
        for file in sorted((ROOT / "rules").glob("*.smk"))
        for name, body in RULE.findall(file.read_text(encoding="utf-8"))
    }


def test_rules_are_found():
    assert {"export", "convert", "lower", "pte", "validate", "summary"} <= set(rules())


@pytest.mark.parametrize(("name", "body"), rules().items())
def test_a_rule_runs_the_module_of_its_name_and_says_so(name, body):
    folder = FOLDERS.get(name, name)
    assert f'python -P -m pte_foundry.steps.{name}"' in body
    assert f'sources("{name}")' in body
    assert f'ode("{name}"' in body
    assert f'mem_mb=memory("{name}")' in body
    assert f'"logs/{folder}' in body
    assert "\n    benchmark:" not in body, "it cannot see what a warm process runs"
    assert "benchmark=" not in body or f'"benchmarks/{folder}' in body
    assert re.search(r'message:\n\s+"[A-Z].*[^.]"', body)
    assert not re.search(r"\b(run|script):", body)
