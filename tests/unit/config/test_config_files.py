"""Config files: what Snakemake would read, with every finding at its file and line."""

import subprocess
import sys
import textwrap

import pytest
from pte_foundry.cli.main import main
from pte_foundry.config import yamlfiles
from pte_foundry.config.config import Config, load
from pte_foundry.errors import ConfigError
from pte_foundry.findings import Finding
from snakemake.utils import update_config

BASE = """\
models:
  net:
    module: net.py
    weights: &pinned
      file: net.py
      sha256: SHA
    data:
      extra:
        <<: *pinned
recipes:
  plain: {scheme: none}
targets:
  phone:
    minimum_os: iOS18
builds:
  - models: "*"
    recipes: [plain]
    targets: "*"
""".replace("SHA", "a" * 64)


@pytest.fixture
def project(tmp_path):
    (tmp_path / "net.py").write_text(
        "def build(): ...\ndef example_inputs(): ...\ndef evaluation(): ...\n"
    )
    (tmp_path / "base.yaml").write_text(BASE)
    return tmp_path


def message(project, *texts):
    """The error of the base configuration with further files over it."""
    files = ["base.yaml"]
    for number, text in enumerate(texts):
        files.append(f"over{number}.yaml")
        (project / files[-1]).write_text(textwrap.dedent(text))
    with pytest.raises(ConfigError) as caught:
        load(files, project)
    return str(caught.value)


def test_base_is_sound(project):
    assert len(load(["base.yaml"], project).builds) == 1


def test_a_finding_names_the_file_and_line_it_is_in(project):
    (project / "base.yaml").write_text(BASE.replace("iOS18", "iOS99"))
    assert "base.yaml:14: targets.phone.minimum_os" in message(project)


def test_files_are_shown_relative_to_the_project(project, tmp_path_factory):
    """Snakemake passes absolute paths, and the project's own may contain a symbolic link."""
    (project / "base.yaml").write_text(BASE.replace("iOS18", "iOS99"))
    link = tmp_path_factory.mktemp("links") / "project"
    link.symlink_to(project)
    for file, root in ((project, project), (link, project), (project, link), (link, link)):
        with pytest.raises(ConfigError, match=r"\nbase\.yaml:14: targets\.phone"):
            load([file / "base.yaml"], root)
    outside = tmp_path_factory.mktemp("outside") / "base.yaml"
    outside.write_text((project / "base.yaml").read_text())
    with pytest.raises(ConfigError, match=f"\n{outside}:14: targets"):
        load([outside], project)


def test_the_newest_file_with_the_value_is_named(project):
    text = message(project, "targets: {phone: {minimum_os: iOS9}}")
    assert "over0.yaml:1: targets.phone.minimum_os" in text


def test_a_missing_key_is_reported_where_its_entry_starts(project):
    text = message(project, "models:\n  other:\n    module: net.py\n")
    assert "over0.yaml:2: models.other.weights" in text


def test_values_below_a_merge_key_have_a_line(project):
    (project / "base.yaml").write_text(BASE.replace("a" * 64, "A" * 64))
    text = message(project)
    assert "base.yaml:6: models.net.weights.sha256" in text
    assert "base.yaml:6: models.net.data.extra.sha256" in text


def test_a_value_from_the_command_line_is_named_so(project):
    data = yamlfiles.read(project / "base.yaml", project).data
    data["targets"]["phone"]["compute_units"] = "gpu"
    with pytest.raises(
        ConfigError, match=r"command line \(--config\): targets.phone.compute_units"
    ):
        Config.parse(data, [project / "base.yaml"], project)


def test_keys_given_twice_are_refused_with_both_lines(project):
    text = message(project, "targets:\n  a: {minimum_os: iOS17}\n  a: {minimum_os: iOS18}\n")
    assert "over0.yaml:3: targets.a" in text
    assert "first in line 2" in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [1\nb: 2\n", "bad.yaml:"),
        (b"a:\n\t- 1\n", "bad.yaml:2"),
        (b"a: b: c\n", "bad.yaml:1"),
        (b"- a\n", "does not contain a mapping"),
        (b"", "does not contain a mapping"),
        (b"just text", "does not contain a mapping"),
        (b"a: \xff\xfe", "not UTF-8"),
        (b"a: \x00", "not YAML"),
        (b"a: !!python/name:os.system x\n", "bad.yaml"),
        (b"a: !unknown 3\n", "bad.yaml:1"),
        (b"a: &a [*a]\n", "contains itself"),
        (b"a: *nowhere\n", "bad.yaml:1"),
        (b"? [1, 2]\n: 3\n", "bad.yaml"),
        (b"---\na: 1\n---\nb: 2\n", "bad.yaml"),
    ],
)
def test_broken_files_are_findings(content, words, tmp_path):
    (tmp_path / "bad.yaml").write_bytes(content)
    (finding,) = yamlfiles.read(tmp_path / "bad.yaml", tmp_path).findings
    assert words in str(finding)


def test_a_missing_file_is_a_finding(tmp_path):
    (finding,) = yamlfiles.read(tmp_path / "none.yaml", tmp_path).findings
    assert "No such file" in str(finding)


def test_several_broken_files_and_wrong_values_come_together(project):
    text = message(project, "a: [1\n", "targets: {phone: {compute_units: gpu}}\n", "- 1\n")
    assert "over0.yaml" in text
    assert "over1.yaml:1: targets.phone.compute_units" in text
    assert "over2.yaml" in text


LAYERS = [
    {"a": {"b": 1, "c": [1, 2]}, "d": 1},
    {"a": {"c": [3], "e": {"f": None}}, "d": {"g": 1}},
    {"a": {"e": None}, "h": []},
    {"a": {"e": {"z": 1}}, "d": 2},
]


@pytest.mark.parametrize("count", range(1, 5))
def test_files_merge_as_snakemake_merges_them(count):
    expected: dict = {}
    for layer in LAYERS[:count]:
        update_config(expected, layer)
    assert yamlfiles.merged(LAYERS[:count]) == expected


def test_findings_without_files_have_no_place():
    finding = Finding(("a", 0, "b c"), "wrong", "right", "fix it", value="x")
    assert str(yamlfiles.located(finding, {}, [])).startswith('a[0]."b c" = "x"\n')


def test_the_command_says_what_is_wrong(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    assert main(["check", "base.yaml"]) == 0
    assert capsys.readouterr().out == "ok: 1 build\n"
    (project / "worse.yaml").write_text("recipes: {plain: {scheme: pt3e}}\n")
    assert main(["check", "base.yaml", "worse.yaml"]) == 1
    assert "did you mean pt2e?" in capsys.readouterr().err


def test_nothing_heavy_is_imported():
    """Snakemake imports this package at every start."""
    code = "import sys, pte_foundry.config.config; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"torch", "numpy", "coremltools", "executorch", "torchao", "snakemake", "jsonschema"}
    assert not heavy & set(loaded.stdout.split())
