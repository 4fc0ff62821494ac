"""Protects the README: its example of a new model is built as it stands there."""

import json
import re
import shlex

import numpy as np
import pytest
from pte_foundry.cli import main
from pte_foundry.cli.main import COMMANDS
from pte_foundry.lock import LIBRARY
from pte_foundry.upstream.coremltools_protobuf import Model_pb2

from tests.mil.test_mil_program import mb, save, spec
from tests.project import ROOT, Project

README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(first_line: str) -> str:
    """The README's code block that starts with this line."""
    found = re.findall(r"```\w+\n(.*?)```", README, re.DOTALL)
    return next(text for text in found if text.startswith(first_line))


@pytest.mark.slow
def test_the_examples_of_new_models_build_and_pass(tmp_path, monkeypatch):
    default = (ROOT / "config/config.yaml").read_text(encoding="utf-8")
    project = Project(tmp_path / "project", config=default)
    project.write("config/models/iris.py", block("# config/models/iris.py"))
    project.write("config/iris.yaml", block("# config/iris.yaml"))
    monkeypatch.chdir(project.folder)
    assert main(["new", "net", "--config", "config/iris.yaml"]) == 0
    project.build("--configfile", "config/iris.yaml")
    *builds, net = json.loads(project.read("results/summary.json"))["builds"]
    assert net["build"] == {"model": "net", "recipe": "fp16", "target": "ios18"}
    assert net["status"] == "pass"
    assert [build["build"]["recipe"] for build in builds] == ["fp16", "int8_static"]
    for build in builds:
        assert build["status"] == "pass"
        assert build["metrics"]["top1"] > 0.9
        assert abs(build["metrics"]["top1_change"]) < 0.05


def test_every_scheme_in_the_table_is_a_recipe_of_a_configuration():
    table = README.split("## Schemes")[1].split("\n\n")[1]
    named = set(re.findall(r"`(\w+)`", "".join(row.split("|")[2] for row in table.splitlines())))
    configured = (ROOT / "config/config.yaml").read_text() + (ROOT / "config/full.yaml").read_text()
    assert named
    assert not [name for name in named if not re.search(rf"^  {name}:", configured, re.MULTILINE)]


def test_what_the_readme_names_exists():
    """Commands of pte-foundry, and the rooms of its table, where a reader goes next."""
    named = set(re.findall(r"`pte-foundry ([a-z]+)", README))
    assert named
    assert named <= COMMANDS.keys()
    rooms = README.split("## Extend it")[1]
    places = re.findall(r"`((?:\w+/)+\w*(?:\.py)?|\w+\.py)", rooms)
    assert len(places) > 8
    roots = (LIBRARY, ROOT)
    assert not [place for place in places if not any((root / place).exists() for root in roots)]
    for name in ("SCHEMES", "STAGES", "DEVICES", "COMMANDS"):
        ((table, file),) = re.findall(rf"`({name})` in `?([\w/.]+|the same file)", rooms)
        file = "config/devices.py" if file == "the same file" else file
        assert f"\n{table}" in (LIBRARY / file).read_text(encoding="utf-8")


def test_the_readme_is_short():
    assert README.count("\n") < 320


def test_every_file_that_the_readme_links_exists():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert not [link for link in links if not (ROOT / link).is_file()]


def small_package(folder):
    """What the README inspects: two layers, one of them with weights of four bits."""
    from coremltools.converters.mil.mil import types

    rows = np.arange(64 * 128).reshape(64, 128)
    data = (rows % 15 - 7).astype(types.np_int4_dtype)
    scale = np.full((64, 4), 0.25, np.float16)
    second = (rows[:10, :64] % 5 - 2).astype(np.float16)

    def function(x):
        half = mb().cast(x=x, dtype="fp16")
        weight = mb().constexpr_blockwise_shift_scale(data=data, scale=scale)
        hidden = mb().relu(x=mb().linear(x=half, weight=weight))
        return mb().cast(x=mb().linear(x=hidden, weight=second), dtype="fp32", name="logits")

    saved = save(folder / "model.mlpackage", function, x=spec(1, 128))
    file = saved / "Data" / "com.apple.CoreML" / "model.mlmodel"
    model = Model_pb2.Model.FromString(file.read_bytes())
    model.description.metadata.Clear()  # coremltools writes the date into it
    model.description.metadata.shortDescription = "Ten classes of 128 features"
    file.write_bytes(model.SerializeToString())
    np.save(folder / "x.npy", np.linspace(-1, 1, 128, dtype=np.float32)[None])


def test_the_interpreter_alone_answers_as_shown(tmp_path, monkeypatch, capsys):
    small_package(tmp_path)
    monkeypatch.chdir(tmp_path)
    shown = block("$ pte-foundry run")
    for part in shown.split("$ pte-foundry ")[1:]:
        command, *lines = part.strip().splitlines()
        assert main(shlex.split(command, comments=True)) == 0
        printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
        assert [line for line in printed if line] == [line for line in lines if line]
    example = block("import numpy as np\nfrom pte_foundry.mil")
    scope = {}
    exec(example, scope)  # the README's own text
    np.testing.assert_array_equal(scope["outputs"]["logits"], np.load("outputs.npz")["logits"])
