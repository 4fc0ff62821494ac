"""Protects that a target after ``--configfile FILE`` is told, and not a traceback."""

import inspect
import json

import pytest
from pte_foundry.upstream.snakemake_configfile import explain_config_files
from snakemake.common import configfile
from snakemake.settings.types import ConfigSettings
from snakemake_interface_common.exceptions import WorkflowError

from tests.unit.upstream.source_digest import assert_source_digest

HINT = "write -- before it: --configfile FILE -- "


@pytest.fixture
def upstream(monkeypatch):
    """What Snakemake has without the repair, which the logger plugin may have installed."""
    plain = inspect.unwrap(configfile._load_configfile)
    monkeypatch.setattr(configfile, "_load_configfile", plain)
    return plain


def test_upstream_still_ends_in_a_traceback(upstream, tmp_path):
    """If this fails, the repair can go."""
    digest = "1beae3441af7e98d08b4c84af20a8171291aa42cdd17ee18f047b23cb44b043a"
    assert_source_digest(upstream, digest, "Is a missing file still a FileNotFoundError?")
    with pytest.raises(FileNotFoundError):
        ConfigSettings(configfiles=[tmp_path / "all"])


def test_what_is_no_config_file_is_told_with_the_way_out(upstream, tmp_path):
    explain_config_files()
    explain_config_files()
    (tmp_path / "a.pte").write_bytes(b"\x90\xff" * 100)
    (tmp_path / "summary.json").write_text(json.dumps({"builds": [], "checksum": "x"}))
    for name, reason in [
        ("all", "No such file or directory"),
        ("a.pte", "it is not UTF-8 text"),
        ("summary.json", "is a result of a build"),
        ("", "Is a directory"),
    ]:
        with pytest.raises(WorkflowError) as raised:
            ConfigSettings(configfiles=[tmp_path / name])
        assert reason in str(raised.value)
        assert HINT in str(raised.value)
    with pytest.raises(WorkflowError) as raised:
        ConfigSettings(configfiles=[tmp_path / "mine.yaml"])
    assert "mine.yaml cannot be read: No such file" in str(raised.value)
    assert HINT not in str(raised.value)


def test_config_files_are_read_as_before(upstream, tmp_path):
    explain_config_files()
    (tmp_path / "a.yaml").write_text("a: {b: 1}\n")
    settings = ConfigSettings(configfiles=[tmp_path / "a.yaml"])
    assert settings.overwrite_config == {"a": {"b": 1}}
