"""Protects a job's reason: it names the changed file of its code, or the changed key of its config.

What changed is given as Snakemake gives it: sets of the ``repr`` of parameters.
"""

import pytest
from pte_foundry.canonical_json import digest
from pte_foundry.slice_argument import encoded
from pte_foundry.workflow.changes import describe, keep

OLD = {"pte_foundry/steps/lower.py": "a" * 64, "net.py": "b" * 64, "torch in the lock": "2.13"}


def code(*edited: str, without: str = "") -> tuple[str, dict[str, str]]:
    files = OLD | dict.fromkeys(edited, "c" * 64)
    files.pop(without, None)
    return digest(files), files


@pytest.fixture
def said(tmp_path):
    """Describes the change from the code that was kept, and from one slice to another."""
    before, _ = code()
    keep({before: OLD}, tmp_path)

    def say(after: tuple[str, dict[str, str]], old=(), new=(), was: str = before) -> str:
        known = {after[0]: after[1]}
        unchanged = after[0] == was
        olds = {repr(value) for value in ([] if unchanged else [was]) + list(old)}
        news = {repr(value) for value in ([] if unchanged else [after[0]]) + list(new)}
        return describe(known, olds, news, tmp_path)

    return say


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (code("net.py"), "code: net.py"),
        (code("net.py", "torch in the lock"), "code: net.py, torch in the lock"),
        (code("new.py"), "code: new.py"),
        (code(without="net.py"), "code: net.py"),
        (code("1", "2", "3", "4", "5", "6"), "code: 1, 2, 3, 4 and 2 more"),
    ],
)
def test_changed_files_and_versions_are_named(said, after, words):
    assert said(after) == words


def test_code_of_which_nothing_is_kept_is_still_told(said):
    assert said(code("net.py"), was="0" * 64).startswith("code: changed")


def test_a_parameter_may_be_a_list(said):
    """As that of the manifest, with the project's folder of each model."""
    assert said(code(), old=[["."]], new=[[".", "../team"]]) == "['.'] -> ['.', '../team']"


def test_a_damaged_record_is_as_none(said, tmp_path):
    (path,) = tmp_path.iterdir()
    path.write_text("{")
    assert said(code("net.py")).startswith("code: changed")


def test_changed_keys_of_the_config_are_named_with_both_values(said):
    old = {"gates": {"sqnr_db": {"min": 10}}, "steps": [{"bits": 4, "axis": 0}], "gone": 1}
    new = {"gates": {"sqnr_db": {"min": 11}}, "steps": [{"bits": 8, "axis": 0}], "come": [2]}
    assert said(code(), [encoded(old)], [encoded(new)]) == (
        "config: come: added [2], gates.sqnr_db.min: 10 -> 11, gone: removed 1, "
        "steps[0].bits: 4 -> 8"
    )


def test_code_and_config_both(said):
    words = said(code("net.py"), [encoded({"a": 1})], [encoded({"a": None})])
    assert words == "code: net.py; config: a: 1 -> null"


def test_slices_too_long_for_a_command_are_read_too(said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old = {"recipe": {f"layer.{n}": n for n in range(900)}}
    new = {"recipe": old["recipe"] | {"layer.7": "x" * 200}}
    assert encoded(old).startswith("file:")
    words = said(code(), [encoded(old)], [encoded(new)])
    assert words.startswith('config: recipe.layer.7: 7 -> "xxx')
    assert len(words) < 120


def test_each_slice_is_compared_with_its_own_successor(said):
    """The description of a model has two: its pins and its paths."""
    pins, paths = {"sha256": {"weights": "a"}}, {"weights": "a.pt", "module": "m.py", "data": {}}
    new_pins, new_paths = {"sha256": {"weights": "b"}}, paths | {"weights": "b.pt"}
    words = said(code(), [encoded(paths), encoded(pins)], [encoded(new_paths), encoded(new_pins)])
    assert sorted(words.removeprefix("config: ").split(", ")) == [
        'sha256.weights: "a" -> "b"',
        'weights: "a.pt" -> "b.pt"',
    ]


def test_the_second_digest_of_the_export_does_not_hide_the_file(said, tmp_path):
    before, _ = code()
    after, files = code("net.py")
    olds, news = {repr(before), repr("1" * 64)}, {repr(after), repr("2" * 64)}
    assert describe({after: files}, olds, news, tmp_path) == "code: net.py"


def test_parameters_that_are_none_of_ours_are_shown(said):
    assert said(code(), [None, 3, "x"], [(1, 2)]) == "3, None, x -> (1, 2)"


def test_what_is_kept_already_is_not_written_again(tmp_path):
    keep({"a" * 64: OLD}, tmp_path)
    (path,) = tmp_path.iterdir()
    before = path.stat().st_mtime_ns
    keep({"a" * 64: OLD}, tmp_path)
    assert path.stat().st_mtime_ns == before
