"""Protects the configs, names and files that `pte-foundry new` finds when it is called."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from pte_foundry.config.config import load
from pte_foundry.models.module import ModelModule

from tests.project import ROOT

COMPLETE = """\
# Ours
models:
  old: {module: old.py, weights: {random: 0}}  # the first
recipes:
  small: {scheme: none}
  lut: {scheme: quantize, steps: [{codebook: {dtype: uint4, block_size: [-1, -1]}}]}
targets: {mac: {minimum_os: macOS15}}
builds:
- {models: [old], recipes: [lut], targets: [mac]}  # a comment
"""
MODULE = "def build(): ...\ndef example_inputs(): ...\n"


def test_a_config_that_is_there_gets_one_entry_more(call_new):
    Path("old.py").write_text(MODULE)
    Path("mine.yaml").write_text(COMPLETE)
    Path("mine.yaml").chmod(0o600)
    code, said = call_new("net")
    assert code == 0
    assert "-- results/pte/net/small/mac.pte" in said
    lines = Path("mine.yaml").read_text().splitlines()
    assert [line for line in lines if line in COMPLETE.splitlines()] == COMPLETE.splitlines()
    assert Path("mine.yaml").stat().st_mode & 0o777 == 0o600
    config = load([Path("mine.yaml").absolute()], Path.cwd())
    found = [(one.model, one.recipe, one.target) for one in config.builds]
    assert found == [("old", "lut", "mac"), ("net", "small", "mac")]


def test_a_model_of_all_builds_gets_none_of_its_own(call_new):
    Path("old.py").write_text(MODULE)
    Path("mine.yaml").write_text(COMPLETE.replace("[old]", '"*"'))
    assert call_new("net")[0] == 0
    config = load([Path("mine.yaml").absolute()], Path.cwd())
    assert [(one.model, one.recipe) for one in config.builds] == [("old", "lut"), ("net", "lut")]


@pytest.mark.parametrize(
    "text",
    [
        "extends: base.yaml\ndivergence: true  # c\n",
        "extends: base.yaml\nmodels:\n  other: {module: old.py, weights: {random: 1}}\n",
    ],
)
def test_a_config_that_extends_another_still_builds_what_it_built(call_new, text):
    Path("old.py").write_text(MODULE)
    Path("base.yaml").write_text(COMPLETE)
    Path("mine.yaml").write_text(text)
    assert call_new("net")[0] == 0
    config = load([Path("mine.yaml").absolute()], Path.cwd())
    assert [one.model for one in config.builds] == ["old", "net"]
    assert Path("base.yaml").read_text() == COMPLETE


def test_a_config_over_the_default_one_stays_over_it(call_new):
    """One that lacks a section extends the default config without saying so."""
    text = "recipes: {r: {scheme: none}}\ntargets: {t: {minimum_os: iOS18}}\nbuilds:\n"
    text += "- {models: [digits_cnn], recipes: [int8_static], targets: [ios17]}\n"
    Path("mine.yaml").write_text(text)
    assert call_new("net")[0] == 0
    config = load([Path("mine.yaml").absolute()], Path.cwd())
    found = [(one.model, one.recipe, one.target) for one in config.builds]
    assert found == [("digits_cnn", "int8_static", "ios17"), ("net", "fp16", "ios18")]


def test_recipes_of_a_new_config_are_those_of_the_default_one(call_new):
    assert call_new("net")[0] == 0
    made = load([Path("mine.yaml").absolute()], Path.cwd()).recipes
    default = load([ROOT / "config/config.yaml"], ROOT).recipes
    assert made
    assert [name for name in made if made[name].slice() != default[name].slice()] == []


@pytest.mark.parametrize("text", ["", "# ours\n", "{}"])
def test_an_empty_config_extends_the_default_one(call_new, text):
    Path("mine.yaml").write_text(text)
    code, said = call_new("minilm")
    assert code == 1
    assert "models.minilm" in said
    assert "this model is there already" in said
    assert Path("mine.yaml").read_text() == text
    assert call_new("net")[0] == 0
    config = load([Path("mine.yaml").absolute()], Path.cwd())
    assert {"minilm", "net"} <= {one.model for one in config.builds}


NAMES = {
    "a b": "rename it, e.g. to a_b",
    "../x": "not a valid one",
    "": "not a valid one",
    "x" * 101: "at most 100 characters",
    "old": "mine.yaml:3: models.old.*\n.*this model is there already",
    "OLD": "this model is there already",
    "there": "there.py is there already, and is not overwritten",
}


@pytest.mark.parametrize(("name", "problem"), NAMES.items())
def test_names_are_checked_before_anything_is_written(call_new, name, problem):
    Path("mine.yaml").write_text(COMPLETE)
    Path("models").mkdir()
    Path("models/there.py").write_text("mine")
    code, said = call_new(name)
    assert code == 1
    assert re.search(problem, said), said
    assert Path("mine.yaml").read_text() == COMPLETE
    assert [path.name for path in Path("models").iterdir()] == ["there.py"]
    assert Path("models/there.py").read_text() == "mine"


@pytest.mark.parametrize("name", ["on", "123", "1.5", "null", "a.b", "torch"])
def test_names_that_mean_something_else_to_yaml_or_python(call_new, entry, name):
    assert call_new(name)[0] == 0
    assert entry(name)["module"] == f"models/{name}.py"
    model = ModelModule.load(Path(f"models/{name}.py"), None, {}, {}, seed=0)
    assert isinstance(model.build(), torch.nn.Module)


@pytest.mark.parametrize(
    "source", ["hg:x", "hf", "hf:", "timm", "module:x", "hf:nothere", "program:no.pt2", "hf:a/b/c"]
)
def test_sources_that_are_none_are_refused_and_nothing_is_left(call_new, source):
    code, said = call_new("net", "--from", source)
    assert code == 1
    assert source.partition(":")[2] in said
    assert "Traceback" not in said
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "mine.yaml: it is not YAML"),
        ("models: &m {}\nx: *m", "nothing can be inserted"),
        ("- 1\n", "expected a mapping"),
    ],
)
def test_a_config_that_cannot_be_extended_stays_as_it_is(call_new, text, problem):
    Path("mine.yaml").write_text(text)
    code, said = call_new("net")
    assert code == 1
    assert problem in said
    assert Path("mine.yaml").read_text() == text
    assert not Path("models").exists()


def test_errors_of_other_models_do_not_stand_in_the_way(call_new):
    Path("mine.yaml").write_text(COMPLETE)  # its model has no file
    assert call_new("net")[0] == 0
    assert "net" in yaml.safe_load(Path("mine.yaml").read_text())["models"]


def test_json_stays_json(call_new):
    Path("old.py").write_text(MODULE)
    Path("mine.json").write_text(json.dumps(yaml.safe_load(COMPLETE)))
    assert call_new("net", "--config", "mine.json")[0] == 0
    assert set(json.loads(Path("mine.json").read_text())["models"]) == {"old", "net"}
