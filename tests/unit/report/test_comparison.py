"""Protects the comparison of two builds: what changed, whether it got worse, and why."""

import copy

import pytest
from pte_foundry.cli.main import main
from pte_foundry.files import write_json
from pte_foundry.report.comparison import compare, headline
from pte_foundry.report.summary import summarize

from tests.made_up_reports import path_of, report


def summary_of(*made: dict) -> dict:
    return summarize({path_of(one): one for one in made})


def manifest(**inputs: object) -> dict:
    """A manifest with one artifact, of inputs that may be given."""
    model = {"options": {}, "imports": {}, "files": {"weights": {"sha256": "w"}}}
    made = {
        "artifacts": {
            "results/pte/minilm/lut4/ios18.pte": {
                "model": "minilm",
                "recipe": "lut4",
                "target": "ios18",
            }
        },
        "environment": {"lock_sha256": "l", "python": "3.11"},
        "models": {"minilm": model},
        "recipes": {"lut4": {"scheme": "quantize"}},
        "targets": {"ios18": {}},
        "code": {"export": "e", "convert/quantize": "q", "convert/pt2e": "p"},
    }
    return made | inputs


OLD = summary_of(report("minilm", "lut4", "ios18"), report("minilm", "fp16", "ios18"))


def changed() -> dict:
    """A summary in which lut4 is smaller and worse, and fails; fp16 has gone, fp32 has come."""
    lut4 = copy.deepcopy(report("minilm", "lut4", "ios18"))
    lut4["artifact"] |= {"sha256": "0" * 64, "bytes": 10_000_000}
    lut4["metrics"]["sqnr_db"] = 3.0
    lut4["status"] = "fail"
    return summary_of(lut4, report("minilm", "fp32", "ios18"))


def test_states_come_worst_first_with_old_and_new_values():
    changes = compare(OLD, changed())
    assert [(one.name, one.state) for one in changes] == [
        ("minilm/lut4/ios18", "fails now"),
        ("minilm/fp16/ios18", "gone"),
        ("minilm/fp32/ios18", "new"),
    ]
    cells = changes[0].cells()
    assert cells[2:4] == ["13.2 MB → 10 MB", "20.8 → 3.0"]
    assert cells[6] == "differ"
    assert headline(changes) == "1 fails now, 1 gone, 1 new"


def test_equal_builds_are_the_same():
    changes = compare(OLD, copy.deepcopy(OLD), manifest(), manifest())
    assert headline(changes) == "2 same"
    assert [one.cells()[6] for one in changes] == ["equal", "equal"]


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ({}, ()),
        ({"recipes": {"lut4": {"scheme": "quantize", "bits": 4}}}, ("recipe",)),
        ({"environment": {"lock_sha256": "x", "python": "3.11"}}, ("lock file",)),
        (
            {"code": {"export": "e", "convert/quantize": "x", "convert/pt2e": "p"}},
            ("code of convert (quantize)",),
        ),
        ({"code": {"export": "e", "convert/quantize": "q", "convert/pt2e": "x"}}, ()),
    ],
)
def test_the_inputs_that_differ_are_named(new, expected):
    changes = compare(OLD, OLD, manifest(), manifest(**new))
    found = {one.name: one.inputs for one in changes}
    assert found["minilm/lut4/ios18"] == expected
    assert found["minilm/fp16/ios18"] is None  # in neither manifest


def test_the_command_prints_what_changed_and_fails_if_a_build_got_worse(tmp_path, capsys):
    write_json(tmp_path / "old/summary.json", OLD)
    write_json(tmp_path / "new/results/summary.json", changed())
    page = tmp_path / "changes.html"
    folders = [str(tmp_path / "old"), str(tmp_path / "new")]
    assert main(["compare", *folders, "--html", str(page)]) == 1
    printed = capsys.readouterr().out
    assert "minilm/lut4/ios18" in printed
    assert "20.8 → 3.0" in printed
    assert "20.8 → 3.0" in page.read_text()
    assert main(["compare", folders[0], folders[0]]) == 0
    assert capsys.readouterr().out == "2 same\n"


@pytest.mark.parametrize("content", [None, "{}", "[1]", "no json"])
def test_what_is_no_summary_is_refused(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 1
    assert "summary" in capsys.readouterr().err
