"""Protects the page of the last run, and what it compares with."""

import copy
import json
from pathlib import Path

from pte_foundry.files import write_json
from pte_foundry.report.summary import summarize
from pte_foundry.workflow.last_run import Run

from tests.made_up_reports import path_of, report

FIRST = report("minilm", "lut4", "ios18")


def run(folder: Path, one: dict | None) -> str:
    """A run that leaves the summary of one report; returns its page."""
    begun = Run.begin(folder)
    if one is not None:
        write_json(folder / "results/summary.json", summarize({path_of(one): one}))
    begun.end("pte-foundry 1.2.3", [Path("config.yaml")], failed=False)
    return (folder / "logs/run.html").read_text()


def smaller() -> dict:
    changed = copy.deepcopy(FIRST)
    changed["artifact"] |= {"bytes": 1_000_000, "sha256": "0" * 64}
    return changed


def previous(folder: Path) -> int:
    summary = json.loads((folder / "results/previous/summary.json").read_text())
    return summary["totals"]["bytes"]


def test_the_first_run_has_nothing_to_compare_with(tmp_path):
    page = run(tmp_path, FIRST)
    assert "There is no earlier build" in page
    assert "pte-foundry 1.2.3" in page
    assert "config.yaml" in page
    assert not (tmp_path / "results/previous").exists()


def test_a_run_that_changes_nothing_keeps_what_the_one_before_changed(tmp_path):
    run(tmp_path, FIRST)
    for page in (run(tmp_path, smaller()), run(tmp_path, None)):
        assert "13.2 MB → 1 MB" in page
        assert "1 changed" in page
        assert previous(tmp_path) == FIRST["artifact"]["bytes"]
    assert "1 MB → 13.2 MB" in run(tmp_path, FIRST)
    assert previous(tmp_path) == 1_000_000


def test_a_run_without_results_writes_no_page(tmp_path):
    Run.begin(tmp_path).end("pte-foundry 1.2.3", [], failed=True)
    assert not (tmp_path / "logs").exists()


def test_a_manifest_of_another_build_is_not_compared(tmp_path):
    """A failed build has none: its inputs are unknown, and not those of an earlier one."""
    run(tmp_path, FIRST)
    (tmp_path / "results/previous").mkdir()
    (tmp_path / "results/previous/manifest.json").write_text("{}")
    assert "unknown" in run(tmp_path, smaller())
    assert not (tmp_path / "results/previous/manifest.json").exists()
