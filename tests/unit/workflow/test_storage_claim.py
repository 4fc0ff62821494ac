"""Protects results in a storage: no second folder takes them for its own, or writes them."""

import pytest
from pte_foundry.files import write_json
from pte_foundry.workflow.storage_claim import (
    MARK,
    ClaimedError,
    begin,
    check_claim,
    claim,
    conclude,
)

from tests.storage_folder import storage_in

PAGE = "results/report/index.html"


@pytest.fixture
def ours(tmp_path):
    """A folder, and its way to the storage."""
    return tmp_path / "ours", storage_in(tmp_path / "buckets", tmp_path / "ours" / "copies")


def test_a_folder_claims_a_storage_once_and_builds_there_again(ours):
    folder, storage = ours
    assert not check_claim(storage, folder)
    assert not storage.exists(MARK), "a dry run claims nothing"
    claim(storage, folder)
    before = storage.path(MARK).read_bytes()
    claim(storage, folder)
    assert check_claim(storage, folder)
    assert storage.path(MARK).read_bytes() == before


def test_another_folder_is_refused_with_the_name_of_the_first(tmp_path, ours):
    claim(ours[1], ours[0])
    other = storage_in(tmp_path / "buckets", tmp_path / "other" / "copies")
    for act in (check_claim, claim):
        with pytest.raises(ClaimedError, match=rf"in mem://bucket/run/ are of {ours[0]} of \w+"):
            act(other, tmp_path / "other")
    beside = storage_in(tmp_path / "buckets", tmp_path / "other" / "copies", "mem://bucket/2")
    claim(beside, tmp_path / "other")
    with pytest.raises(ClaimedError):
        claim(other, tmp_path / "other")


def test_a_folder_that_has_lost_its_records_is_another_one(ours):
    folder, storage = ours
    claim(storage, folder)
    (folder / ".snakemake/pte_foundry/folder.json").unlink()
    with pytest.raises(ClaimedError):
        claim(storage, folder)


@pytest.mark.parametrize("mark", [b"", b'{"id": 1}', {"id": None}, {"of": "a\x1b[2Jb", "id": "x"}])
def test_a_mark_that_is_none_refuses_and_controls_no_terminal(ours, mark):
    folder, storage = ours
    path = storage.base / MARK
    if isinstance(mark, bytes):
        path.parent.mkdir(parents=True)
        path.write_bytes(mark)
    else:
        write_json(path, mark)
    storage.store(MARK)
    with pytest.raises(ClaimedError) as raised:
        claim(storage, folder)
    assert str(raised.value).isprintable()


def test_what_a_failed_run_has_stored_is_gone_when_the_next_one_plans(ours):
    folder, storage = ours
    begin(storage, folder)
    page = storage.base / PAGE
    page.parent.mkdir(parents=True)
    page.write_text("of what there is")
    conclude(storage, folder, [PAGE])
    assert storage.exists(PAGE)
    assert not page.exists()
    elsewhere = storage_in(storage._provider.folder, folder / "copies", "mem://bucket/2")
    begin(elsewhere, folder)
    assert storage.exists(PAGE)
    begin(storage, folder)
    assert not storage.exists(PAGE)
    begin(storage, folder)
