"""Protects the README: its example of a new model is built as it stands there."""

import json
import re

import pytest

from tests.project import ROOT, Project

README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(first_line: str) -> str:
    """The README's code block that starts with this line."""
    found = re.findall(r"```\w+\n(.*?)```", README, re.DOTALL)
    return next(text for text in found if text.startswith(first_line))


@pytest.mark.slow
def test_the_example_of_a_new_model_builds_and_passes(tmp_path):
    default = (ROOT / "config/config.yaml").read_text(encoding="utf-8")
    project = Project(tmp_path / "project", config=default)
    project.write("config/models/iris.py", block("# config/models/iris.py"))
    project.write("config/iris.yaml", block("# config/iris.yaml"))
    project.build("--configfile", "config/iris.yaml")
    builds = json.loads(project.read("results/summary.json"))["builds"]
    assert [build["build"]["recipe"] for build in builds] == ["fp16", "int8_static"]
    for build in builds:
        assert build["status"] == "pass"
        assert build["metrics"]["top1"] > 0.9
        assert abs(build["metrics"]["top1_change"]) < 0.05


def test_every_scheme_in_the_table_is_a_recipe_of_a_configuration():
    table = README.split("## Schemes and systems")[1].split("\n\n")[1]
    named = set(re.findall(r"`(\w+)`", "".join(row.split("|")[2] for row in table.splitlines())))
    configured = (ROOT / "config/config.yaml").read_text() + (ROOT / "config/full.yaml").read_text()
    assert named
    assert not [name for name in named if not re.search(rf"^  {name}:", configured, re.MULTILINE)]


def test_every_file_that_the_readme_links_exists():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert not [link for link in links if not (ROOT / link).is_file()]
