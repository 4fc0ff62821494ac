"""Protects config files into which `pte-foundry new` writes: one entry more, and nothing else."""

import difflib

import pytest
import yaml
from pte_foundry.config.insert import Entry, inserted, with_extends
from pte_foundry.errors import ConfigError

MODEL = Entry({"module": "x.py", "weights": {"random": 0}}, {"weights": "c"}, "above", ["below"])
BUILD = Entry({"models": ["on"], "recipes": ["fp16"], "targets": ["ios18"]})

CONFIGS = {
    "empty": "",
    "comments": "# ours\n",
    "empty sections": "models:\nbuilds:  # none yet\n",
    "block": "models:\n  a: {module: a.py}  # c\n  # more of a\n\n# next\nbuilds:\n- {x: [a]}\n",
    "flow": "models: {a: {module: b}}\nbuilds: [{models: [a]}, ] # k\n",
    "empty flow": "models: {}\nbuilds: [ ]\n",
    "json": '{"models": {"a": {"b": 1}}, "builds": []}',
    "json without sections": '{"extends": "default"}\n',
    "text block, CRLF": "models:\r\n  a:\r\n    b: |\r\n      t\r\n\r\nbuilds:\r\n  - x: [a]\r\n",
    "wide, no end of line": "models:\n    a:\n        c: \n    d:\n\n\nbuilds:\n    -   x: [x]",
    "merge": "models:\n  a: &y\n    c: 1\n  e:\n    <<: *y\n",
    "indented": "  models:\n    a: {b: 1}\n  builds:\n  - {models: x}\n",
    "flow over lines": "models:\n  a: {\n    b: 1,  # n\n  }\nx: 1",
    "byte order mark": "\ufeffmodels:\n  a: {b: 1}\n",
}


@pytest.mark.parametrize("text", CONFIGS.values(), ids=CONFIGS)
def test_entries_are_added_and_nothing_else_changes(text):
    before = yaml.full_load(text) or {}
    made = inserted(inserted(text, "models", "on", MODEL), "builds", None, BUILD)
    after = yaml.full_load(made)
    assert after["models"] == (before.get("models") or {}) | {"on": dict(MODEL.value)}
    assert after["builds"] == (before.get("builds") or []) + [dict(BUILD.value)]
    assert {k: after[k] for k in before if k not in ("models", "builds")} == {
        k: before[k] for k in before if k not in ("models", "builds")
    }
    kinds = {kind for kind, *_ in difflib.SequenceMatcher(None, text, made, False).get_opcodes()}
    assert kinds <= {"equal", "insert"}
    assert ("\r\n" in text) == (made.count("\r\n") == made.count("\n") and "\r" in made)


def test_a_comment_stays_with_its_entry():
    made = inserted(CONFIGS["block"], "models", "on", MODEL)
    assert made.index("# more of a") < made.index("on") < made.index("# next")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("b: &x {a: {c: 1}}\nmodels: *x\n", "nothing can be inserted into.*\n  'on':"),
        ("models: ~\n", "nothing can be inserted"),
        ("null\n", "nothing can be inserted"),
        ("~", "nothing can be inserted"),
        ("a: b\n...\n", "nothing can be inserted"),
        ("models: [1]\n", "`models:` is not a mapping"),
        ("- 1\n", "expected a mapping of sections"),
        ("a: [", "it is not YAML"),
        ("a: 1\n---\nb: 1\n", "it is not YAML"),
    ],
)
def test_what_cannot_be_extended_in_place_is_refused(text, problem):
    with pytest.raises(ConfigError, match=problem):
        inserted(text, "models", "on", MODEL)


@pytest.mark.parametrize("text", ["# c\nmodels: {}\r\n", '{"models": {}}', "  a: 1\n  b: 2\n"])
def test_extends_comes_first(text):
    made = with_extends(text, "default", "why")
    assert yaml.full_load(made) == yaml.full_load(text) | {"extends": "default"}
