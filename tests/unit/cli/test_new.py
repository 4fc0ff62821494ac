"""Protects `pte-foundry new`: what it writes can be built, and nothing is overwritten."""

import hashlib
import importlib.util
import json
import re
from pathlib import Path

import pytest
import torch
from pte_foundry.cli import new_models
from pte_foundry.config.config import load
from pte_foundry.errors import InputError
from pte_foundry.models.export import export
from pte_foundry.models.inference import reference
from pte_foundry.models.module import ModelModule
from safetensors.torch import save_file

from tests.markers import NEEDS_TIMM
from tests.snapshots import COMMIT, copied, served


def test_a_module_is_written_that_builds_at_once(call_new, entry):
    code, said = call_new("net")
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


def test_weights_are_pinned(call_new, entry):
    Path("w.safetensors").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert call_new("net", "--weights", "w.safetensors", "--config", "config/ours.yaml")[0] == 0
    assert entry(file="config/ours.yaml") == {
        "module": "models/net.py",
        "weights": {"file": "../w.safetensors", "sha256": digest},
    }
    assert "gates" not in Path("config/ours.yaml").read_text()


def test_a_program_is_pinned(call_new, entry):
    Path("own.pt2").write_bytes(b"program")
    assert call_new("net", "--from", "program:own.pt2")[0] == 0
    digest = hashlib.sha256(b"program").hexdigest()
    assert entry() == {"program": {"file": "own.pt2", "sha256": digest}}
    assert not Path("models").exists()
    assert call_new("net", "--from", "program:own.pt2", "--weights", "own.pt2")[0] == 1
    # A file of this name is in the way of a module only.
    Path("models").mkdir()
    Path("models/other.py").write_text("")
    assert call_new("other", "--from", "program:own.pt2")[0] == 0


def test_a_snapshot_in_a_folder(call_new, entry, folders):
    code, said = call_new("vit", "--from", f"hf:{folders}/vit")
    assert code == 0
    for fact in ("ViTForImageClassification, image classification", "1×3×16×16 float32", "logits"):
        assert fact in said
    assert set(entry("vit")) == {"hf"}
    assert call_new("whisper", "--from", f"hf:{folders}/whisper")[0] == 0
    assert entry("whisper")["options"] == {"part": "encoder"}
    # A causal model, whose outputs are only known when it is traced, and a short one.
    code, said = call_new("gpt2", "--from", f"hf:{folders}/gpt2")
    assert "1×16×32 float32" in said
    assert set(entry("gpt2")) == {"hf"}
    assert "data: {text:" in Path("mine.yaml").read_text()


def test_a_snapshot_without_weights_is_tried_untrained(call_new, entry, folders):
    folder = copied(folders / "vit", Path("bare"))
    (folder / "model.safetensors").unlink()
    assert call_new("net", "--from", "hf:bare")[0] == 0
    assert entry() == {"hf": {"folder": "bare"}, "weights": {"random": 0}}
    assert "gates" not in Path("mine.yaml").read_text()
    build = load([Path("mine.yaml").absolute()], Path.cwd()).builds[0]
    assert build.gates["sqnr_db"].on_fail == "warn"


def test_a_snapshot_that_needs_a_module_is_refused(call_new, folders):
    copied(folders / "vit", Path("other"), model_type="videomae", architectures=None)
    code, said = call_new("net", "--from", "hf:other")
    assert code == 1
    assert "pte-foundry new net --from module" in said
    Path("empty").mkdir()
    assert "there is no config.json in this folder" in call_new("net", "--from", "hf:empty")[1]
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
def test_snapshots_that_cannot_be_read_are_refused(call_new, content, problem):
    Path("config.json").write_text(json.dumps(content))
    code, said = call_new("net", "--from", "hf:.")
    assert code == 1
    assert re.search(f"^error: hf:.: .*{problem}", said), said
    assert not Path("mine.yaml").exists()


def test_a_repository_is_pinned_to_its_commit(folders, tmp_path, monkeypatch):
    folder = copied(folders / "vit", tmp_path / "repo")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    with served(folder) as (endpoint, asked):
        place = new_models.Place("net", tmp_path / "mine.yaml", endpoint=endpoint)
        found = new_models.hf("o/n", place)
    assert found.entry.value == {"hf": {"repo": "o/n", "revision": COMMIT}}
    assert found.facts["output logits"] == "1×3 float32"
    assert not [name for name in asked if name.endswith(".safetensors")]
    # Nobody answers any more.
    found = new_models.hf(f"o/n@{COMMIT}", place)
    assert found.entry.value == {"hf": {"repo": "o/n", "revision": COMMIT}}
    assert "cannot be looked up" in found.facts["not looked at"]
    with pytest.raises(InputError, match=r"o/n@main cannot be looked up .*hf download o/n"):
        new_models.hf("o/n@main", place)


@NEEDS_TIMM
def test_an_architecture_of_timm(call_new, entry, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, said = call_new("net", "--from", "timm:test_efficientnet")
    assert code == 0
    assert "1×3×160×160" in said
    assert entry() == {"timm": "test_efficientnet", "weights": {"random": 0}}
    assert "did you mean test_efficientnet?" in call_new("b", "--from", "timm:test_efficientnt")[1]


def test_timm_that_is_missing_is_named(call_new, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, said = call_new("net", "--from", "timm:resnet18")
    assert code == 1
    assert "make environment EXTRA=" in said
