"""Protects `pte-foundry new`: what it writes can be built, and nothing is overwritten."""

import hashlib
import importlib.util
import json
import re
import threading
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import yaml
from pte_foundry.cli import main, new, new_models
from pte_foundry.config.config import load
from pte_foundry.errors import InputError
from pte_foundry.models.export import export
from pte_foundry.models.inference import reference
from pte_foundry.models.module import ModelModule
from safetensors.torch import save_file

from tests.unit.models.test_sources import COMMIT, Hub, copied, folders  # noqa: F401


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Runs `pte-foundry new` in an empty folder; gives its exit code and all that it prints."""
    monkeypatch.chdir(tmp_path)
    # Else the rest of the run would have no warnings.
    monkeypatch.setattr(new.logging, "disable", lambda level: None)

    def call(*arguments):
        code = main(["new", *map(str, arguments)])
        return code, "".join(capsys.readouterr())

    return call


def entry(name="net", file="mine.yaml"):
    """The entry of a model, in a config without errors."""
    load([Path(file).absolute()], Path.cwd())
    return yaml.safe_load(Path(file).read_text())["models"][name]


def test_a_module_is_written_that_builds_at_once(call):
    code, said = call("net")
    assert code == 0
    assert re.search(r"snakemake -s \S+/Snakefile --cores all --configfile mine\.yaml", said)
    assert "pte-foundry check mine.yaml" in said
    assert entry() == {"module": "models/net.py", "weights": {"random": 0}}
    config = load([Path("mine.yaml").absolute()], Path.cwd())
    assert {one.recipe for one in config.builds} == {"fp16"}
    # All of the recipes in the file are sound with its target.
    every = Path("mine.yaml").read_text().replace("recipes: [fp16]", "recipes: '*'")
    Path("mine.yaml").write_text(every)
    assert len(load([Path("mine.yaml").absolute()], Path.cwd()).builds) >= 4
    model = ModelModule.load(Path("models/net.py"), None, {}, {}, seed=0)
    assert len(reference(model).outputs) > 1
    assert export(model, model.build())


def test_the_optional_functions_of_the_template_work(tmp_path):
    lines = new_models.TEMPLATE.read_text().splitlines()
    starts = [line.removeprefix("# def ").partition("(")[0] for line in lines if "# def " in line]
    assert {"evaluation", "calibration", "score", "output_names", "dynamic_shapes"} <= {*starts}
    code = [re.sub(r"^# (?=def |    )", "", line) for line in lines]
    (tmp_path / "net.py").write_text("\n".join(code))
    images = torch.rand(2, 3, 64, 64)
    found = {"images": images, "labels": torch.tensor([1, 2]), "calibration": images + 1}
    save_file(found, tmp_path / "samples.safetensors")
    data = {"samples": tmp_path / "samples.safetensors"}
    model = ModelModule.load(tmp_path / "net.py", None, data, {}, seed=0)
    samples = reference(model)
    assert samples.output_names == ["scores"]
    assert set(model.score(samples.outputs, samples.labels, samples.output_names)) == {"top1"}
    assert len(model.calibration()) == 2
    assert export(model, model.build()).range_constraints


def test_weights_are_pinned(call):
    Path("w.safetensors").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert call("net", "--weights", "w.safetensors", "--config", "config/ours.yaml")[0] == 0
    assert entry(file="config/ours.yaml") == {
        "module": "models/net.py",
        "weights": {"file": "../w.safetensors", "sha256": digest},
    }
    assert "gates" not in Path("config/ours.yaml").read_text()


def test_a_program_is_pinned(call):
    Path("own.pt2").write_bytes(b"program")
    assert call("net", "--from", "program:own.pt2")[0] == 0
    digest = hashlib.sha256(b"program").hexdigest()
    assert entry() == {"program": {"file": "own.pt2", "sha256": digest}}
    assert not Path("models").exists()
    assert call("net", "--from", "program:own.pt2", "--weights", "own.pt2")[0] == 1
    # A file of this name is in the way of a module only.
    Path("models").mkdir()
    Path("models/other.py").write_text("")
    assert call("other", "--from", "program:own.pt2")[0] == 0


def test_a_snapshot_in_a_folder(call, folders):  # noqa: F811
    code, said = call("vit", "--from", f"hf:{folders}/vit")
    assert code == 0
    for fact in ("ViTForImageClassification, image classification", "1×3×16×16 float32", "logits"):
        assert fact in said
    assert set(entry("vit")) == {"hf"}
    assert call("whisper", "--from", f"hf:{folders}/whisper")[0] == 0
    assert entry("whisper")["options"] == {"part": "encoder"}
    # A causal model, whose outputs are only known when it is traced, and a short one.
    code, said = call("gpt2", "--from", f"hf:{folders}/gpt2")
    assert "1×16×32 float32" in said
    assert set(entry("gpt2")) == {"hf"}
    assert "data: {text:" in Path("mine.yaml").read_text()


def test_a_snapshot_without_weights_is_tried_untrained(call, folders):  # noqa: F811
    folder = copied(folders / "vit", Path("bare"))
    (folder / "model.safetensors").unlink()
    assert call("net", "--from", "hf:bare")[0] == 0
    assert entry() == {"hf": {"folder": "bare"}, "weights": {"random": 0}}
    build = load([Path("mine.yaml").absolute()], Path.cwd()).builds[0]
    assert build.gates["sqnr_db"].min == 20


def test_a_snapshot_that_needs_a_module_is_refused(call, folders):  # noqa: F811
    copied(folders / "vit", Path("other"), model_type="videomae", architectures=None)
    code, said = call("net", "--from", "hf:other")
    assert code == 1
    assert "pte-foundry new net --from module" in said
    Path("empty").mkdir()
    assert "there is no config.json in this folder" in call("net", "--from", "hf:empty")[1]
    assert not Path("mine.yaml").exists()


TIMM_CONFIG = {"architecture": "levit_128", "pretrained_cfg": {"tag": "a1"}, "num_classes": 2}
CONFIGS = [
    ({}, r"cannot read the snapshot's config\.json"),
    ([], r"cannot read the snapshot's config\.json"),
    ({"model_type": "vit", "image_size": "x"}, "image_size"),
    ({"model_type": "vit", "architectures": 3}, "TypeError"),
    ({"model_type": "vit", "hidden_size": 7, "patch_size": 0}, "ZeroDivisionError"),
    (TIMM_CONFIG, "use --from timm:levit_128.a1,"),
]


@pytest.mark.parametrize(("content", "problem"), CONFIGS)
def test_snapshots_that_cannot_be_read_are_refused(call, content, problem):
    Path("config.json").write_text(json.dumps(content))
    code, said = call("net", "--from", "hf:.")
    assert code == 1
    assert re.search(f"^error: hf:.: .*{problem}", said), said
    assert not Path("mine.yaml").exists()


def test_a_repository_is_pinned_to_its_commit(folders, tmp_path, monkeypatch):  # noqa: F811
    folder, asked = copied(folders / "vit", tmp_path / "repo"), []
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, folder=folder, asked=asked))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        place = new_models.Place("net", tmp_path / "mine.yaml", endpoint=endpoint)
        found = new_models.hf("o/n", place)
    finally:
        server.shutdown()
        server.server_close()
    assert found.entry.value == {"hf": {"repo": "o/n", "revision": COMMIT}}
    assert found.facts["output logits"] == "1×3 float32"
    assert not [name for name in asked if name.endswith(".safetensors")]
    # Nobody answers any more.
    found = new_models.hf(f"o/n@{COMMIT}", place)
    assert found.entry.value == {"hf": {"repo": "o/n", "revision": COMMIT}}
    assert "cannot be looked up" in found.facts["not looked at"]
    with pytest.raises(InputError, match=r"o/n@main cannot be looked up .*hf download o/n"):
        new_models.hf("o/n@main", place)


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not in the lock")
def test_an_architecture_of_timm(call, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, said = call("net", "--from", "timm:test_efficientnet")
    assert code == 0
    assert "1×3×160×160" in said
    assert entry() == {"timm": "test_efficientnet", "weights": {"random": 0}}
    assert "did you mean test_efficientnet?" in call("b", "--from", "timm:test_efficientnt")[1]


def test_timm_that_is_missing_is_named(call, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, said = call("net", "--from", "timm:resnet18")
    assert code == 1
    assert "make environment EXTRA=" in said


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


def test_a_config_that_is_there_gets_one_entry_more(call):
    Path("old.py").write_text(MODULE)
    Path("mine.yaml").write_text(COMPLETE)
    Path("mine.yaml").chmod(0o600)
    code, said = call("net")
    assert code == 0
    assert "-- results/pte/net/small/mac.pte" in said
    lines = Path("mine.yaml").read_text().splitlines()
    assert [line for line in lines if line in COMPLETE.splitlines()] == COMPLETE.splitlines()
    assert Path("mine.yaml").stat().st_mode & 0o777 == 0o600
    config = load([Path("mine.yaml").absolute()], Path.cwd())
    found = [(one.model, one.recipe, one.target) for one in config.builds]
    assert found == [("old", "lut", "mac"), ("net", "small", "mac")]


def test_a_model_of_all_builds_gets_none_of_its_own(call):
    Path("old.py").write_text(MODULE)
    Path("mine.yaml").write_text(COMPLETE.replace("[old]", '"*"'))
    assert call("net")[0] == 0
    config = load([Path("mine.yaml").absolute()], Path.cwd())
    assert [(one.model, one.recipe) for one in config.builds] == [("old", "lut"), ("net", "lut")]


@pytest.mark.parametrize(
    "text",
    [
        "extends: base.yaml\ndivergence: true  # c\n",
        "extends: base.yaml\nmodels:\n  other: {module: old.py, weights: {random: 1}}\n",
    ],
)
def test_a_config_that_extends_another_still_builds_what_it_built(call, text):
    Path("old.py").write_text(MODULE)
    Path("base.yaml").write_text(COMPLETE)
    Path("mine.yaml").write_text(text)
    assert call("net")[0] == 0
    config = load([Path("mine.yaml").absolute()], Path.cwd())
    assert [one.model for one in config.builds] == ["old", "net"]
    assert Path("base.yaml").read_text() == COMPLETE


def test_a_config_over_the_default_one_stays_over_it(call):
    """One that lacks a section extends the default config without saying so."""
    text = "recipes: {r: {scheme: none}}\ntargets: {t: {minimum_os: iOS18}}\nbuilds:\n"
    text += "- {models: [digits_cnn], recipes: [int8_static], targets: [ios17]}\n"
    Path("mine.yaml").write_text(text)
    assert call("net")[0] == 0
    config = load([Path("mine.yaml").absolute()], Path.cwd())
    found = [(one.model, one.recipe, one.target) for one in config.builds]
    assert found == [("digits_cnn", "int8_static", "ios17"), ("net", "fp16", "ios18")]


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
def test_names_are_checked_before_anything_is_written(call, name, problem):
    Path("mine.yaml").write_text(COMPLETE)
    Path("models").mkdir()
    Path("models/there.py").write_text("mine")
    code, said = call(name)
    assert code == 1
    assert re.search(problem, said), said
    assert Path("mine.yaml").read_text() == COMPLETE
    assert [path.name for path in Path("models").iterdir()] == ["there.py"]
    assert Path("models/there.py").read_text() == "mine"


@pytest.mark.parametrize("name", ["on", "123", "1.5", "null", "a.b", "torch"])
def test_names_that_mean_something_else_to_yaml_or_python(call, name):
    assert call(name)[0] == 0
    assert entry(name)["module"] == f"models/{name}.py"
    model = ModelModule.load(Path(f"models/{name}.py"), None, {}, {}, seed=0)
    assert isinstance(model.build(), torch.nn.Module)


@pytest.mark.parametrize(
    "source", ["hg:x", "hf", "hf:", "timm", "module:x", "hf:nothere", "program:no.pt2", "hf:a/b/c"]
)
def test_sources_that_are_none_are_refused_and_nothing_is_left(call, source):
    code, said = call("net", "--from", source)
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
def test_a_config_that_cannot_be_extended_stays_as_it_is(call, text, problem):
    Path("mine.yaml").write_text(text)
    code, said = call("net")
    assert code == 1
    assert problem in said
    assert Path("mine.yaml").read_text() == text
    assert not Path("models").exists()


def test_errors_of_other_models_do_not_stand_in_the_way(call):
    Path("mine.yaml").write_text(COMPLETE)  # its model has no file
    assert call("net")[0] == 0
    assert "net" in yaml.safe_load(Path("mine.yaml").read_text())["models"]


def test_json_stays_json(call):
    Path("old.py").write_text(MODULE)
    Path("mine.json").write_text(json.dumps(yaml.safe_load(COMPLETE)))
    assert call("net", "--config", "mine.json")[0] == 0
    assert set(json.loads(Path("mine.json").read_text())["models"]) == {"old", "net"}
