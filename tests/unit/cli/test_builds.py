"""Protects ``pte-foundry check``, ``table`` and ``config``: output, JSON, and exit codes."""

import json

import pytest
from pte_foundry.files import read_json, write_json
from pte_foundry.workflow.build_options import keep_options

from tests.project import ROOT


def test_the_table_fails_if_a_build_has(call, summary):
    path, summary = summary, read_json(summary)
    code, out, _ = call("table", path)
    assert (code, f"{summary['totals']['builds']} builds" in out) == (1, True)
    code, out, _ = call("table", path, "--json")
    assert (code, json.loads(out)) == (1, summary)
    summary["totals"]["failed"] = 0
    write_json(path, summary)
    assert call("table", path)[0] == 0


def test_a_summary_that_is_missing_or_none_names_the_fix(call, tmp_path):
    code, _, err = call("table", tmp_path / "results" / "summary.json")
    assert (code, "no such file. Build first" in err) == (1, True)
    (tmp_path / "README.md").write_text("text")
    write_json(tmp_path / "report.json", {"metrics": {}})
    for name in ("README.md", "report.json"):
        code, _, err = call("table", tmp_path / name)
        assert (code, f"{name}: not a summary" in err, "Delete" in err) == (1, True, False)


def test_commands_find_the_results_of_the_last_build(call, summary, tmp_path, monkeypatch):
    """Also below the prefix of a Snakemake module, for which `results` alone means nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foundry").mkdir()
    summary.parent.rename(tmp_path / "foundry/results")
    keep_options(tmp_path, tmp_path / "Snakefile", [], {}, "foundry/results")
    code, out, err = call("table")
    assert (code, "builds" in out, err) == (1, True, "")
    assert "results have not changed since" in call("compare")[2]
    (tmp_path / "foundry/results/summary.json").write_text("{")
    code, out, _ = call("verify")
    assert (code, out.splitlines()[-1]) == (
        1,
        "  snakemake --cores all --force -- foundry/results/summary.json",
    )


def test_results_in_a_storage_are_to_be_copied_first(call, summary, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keep_options(tmp_path, tmp_path / "Snakefile", [], {}, "s3://bucket/run/results")
    code, _, err = call("table")
    assert (code, err) == (
        1,
        "This is the copy in results; the last build here wrote to s3://bucket/run/results.\n",
    )
    summary.parent.rename(tmp_path / "elsewhere")
    for command in ("table", "verify", "compare"):
        code, _, err = call(command)
        assert (code, "Copy them (aws s3 sync s3://bucket/run/results results)" in err) == (1, True)
    assert call("table", "elsewhere/summary.json")[2] == ""


CONFIG = """\
models:
  net: {module: net.py, weights: {file: net.py, sha256: SHA}}
recipes:
  plain: {scheme: none}
targets:
  phone: {minimum_os: iOS18}
builds:
  - {models: "*", recipes: [plain], targets: [phone]}
""".replace("SHA", "a" * 64)


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(
        "def build(): ...\ndef example_inputs(): ...\ndef evaluation(): ...\n"
    )
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_config_without_errors_is_ok_until_its_structure_is_asked_for(call, project):
    assert call("check") == (0, "ok: 1 build\n", "")
    code, out, _ = call("check", "--structure", "config/config.yaml")
    assert (code, "structure not known yet: net" in out) == (3, True)
    code, out, _ = call("check", "--structure", "--json")
    build = {"model": "net", "recipe": "plain", "target": "phone"}
    expected = {"error": None, "files": ["config/config.yaml"]}
    assert json.loads(out) == expected | {"builds": [build], "unknown_structure": ["net"]}
    assert code == 3


def test_a_config_with_errors_lists_them(call, project):
    (project / "over.yaml").write_text("targets: {phone: {minimum_os: iOS99}}\n")
    code, out, err = call("check", "config/config.yaml", "over.yaml")
    assert (code, out) == (1, "")
    assert 'over.yaml:1: targets.phone.minimum_os = "iOS99"' in err
    code, out, err = call("check", "--json", "config/config.yaml", "over.yaml")
    assert (code, err) == (1, "")
    assert "targets.phone.minimum_os" in json.loads(out)["error"]


def test_the_files_of_the_config_are_what_the_command_prints(call):
    assert call("config", "schema")[1] == (ROOT / "config/schema.json").read_text("utf-8")
    assert call("config", "docs")[1] == (ROOT / "config/README.md").read_text("utf-8")
