"""Tests atomic writes and checksums of results."""

import errno
import math
import os
from pathlib import Path

import pytest
from pte_foundry import files
from pte_foundry.errors import DamagedError


def test_replacing_leaves_the_old_file_and_no_rubbish_after_an_error(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail_halfway():
        with files.replacing(path) as temporary:
            temporary.write_text("half of the new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_replacing_makes_folders_and_a_file_that_others_can_read(tmp_path):
    path = tmp_path / "x" / "y.txt"
    with files.replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o044


def test_a_durable_file_is_synced_before_its_name_and_then_all_new_folders(tmp_path, monkeypatch):
    """Another order could leave the name of an empty file after a power failure."""
    done, real = [], os.fsync

    def fsync(handle):
        target = Path(os.readlink(f"/proc/self/fd/{handle}"))
        done.append(target.read_text() if target.is_file() else target.relative_to(tmp_path))
        real(handle)

    def rename(source, target):
        done.append("renamed")
        os.rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", rename)
    files.write_bytes(tmp_path / "a" / "b" / "c.pte", b"new", durable=True)
    assert done == ["new", "renamed", Path("a/b"), Path("a"), Path()]
    done.clear()
    files.write_bytes(tmp_path / "a" / "b" / "c.pte", b"new")
    assert done == ["renamed"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_file_system_that_cannot_sync_is_used_and_a_failing_disk_is_not(
    tmp_path, monkeypatch, number
):
    def fsync(_):
        raise OSError(number, "no")

    monkeypatch.setattr(os, "fsync", fsync)
    path = tmp_path / "a.json"
    if number == errno.EIO:
        with pytest.raises(OSError, match="no"):
            files.write_json(path, {}, durable=True)
    else:
        files.write_json(path, {}, durable=True)
    assert path.exists() == (number == errno.EINVAL)


def test_a_name_of_any_length_is_written(tmp_path):
    path = tmp_path / ("x" * 255)
    files.write_bytes(path, b"")
    assert path.exists()


def test_json_is_the_same_whatever_the_order_of_keys(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, None]})
    files.write_json(tmp_path / "b.json", {"a": [1.5, None], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert files.read_json(tmp_path / "a.json") == {"a": [1.5, None], "b": 1}


def test_json_that_was_changed_or_cut_is_damaged(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"numbers": {1: 0.1, 10: 1e300, 2: -0.0}, "name": "ä"})
    assert files.read_json(path) == {"numbers": {"1": 0.1, "10": 1e300, "2": -0.0}, "name": "ä"}
    whole = path.read_bytes()
    for damaged in (whole.replace(b"0.1", b"0.2"), whole[:-9], b"", b"[]", b"{}", b"\xff"):
        path.write_bytes(damaged)
        with pytest.raises(
            DamagedError, match=r"a\.json is damaged: .*Delete it and rerun; it will be rebuilt"
        ):
            files.read_json(path)


def test_a_file_with_another_digest_is_damaged(tmp_path):
    path = tmp_path / "w.bin"
    path.write_bytes(b"weights")
    files.check(path, files.sha256(path))
    path.write_bytes(b"weighty")
    with pytest.raises(DamagedError, match=r"w\.bin is damaged"):
        files.check(path, "0" * 64)


@pytest.mark.parametrize("noted", ["", "0" * 64 + "  other.pte\n", "zz  a.pte\n", "\udc80"])
def test_a_digest_that_was_damaged_is_named_itself(tmp_path, noted):
    path, note = tmp_path / "a.pte", tmp_path / "a.pte.sha256"
    files.write_digest(note, path, files.write_bytes(path, b"program"))
    files.check_noted(path, note)
    note.write_bytes(noted.encode(errors="surrogateescape"))
    with pytest.raises(DamagedError, match=r"a\.pte\.sha256 is damaged"):
        files.check_noted(path, note)


@pytest.mark.parametrize("read", [files.read_json, lambda path: files.check(path, "0" * 64)])
def test_a_folder_in_the_place_of_a_file_is_damage(tmp_path, read):
    with pytest.raises(DamagedError, match="is damaged: Is a directory"):
        read(tmp_path)
    with pytest.raises(DamagedError, match="is damaged: there is no such file"):
        read(tmp_path / "none")


def test_json_refuses_what_json_does_not_have(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", {"a": math.nan})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("base", [".", "/data", ".snakemake/storage/s3/bucket/results/pte/a/b"])
def test_results_start_from_one_folder_wherever_it_is(base):
    """With a storage the folder of local copies, which may be called like results itself."""
    base = Path(base)
    artifact = base / "results/pte/results/pte/ios18.pte"
    assert files.base_of_artifact(artifact) == base
    assert files.base_of(base / "results/manifest.json", "results/manifest.json") == base
    assert files.seen_from(base, artifact) == "results/pte/results/pte/ios18.pte"


@pytest.mark.parametrize("path", ["manifest.json", "/tmp/manifest.json", "json"])
def test_a_file_of_another_place_sees_results_from_the_current_folder(path):
    assert files.base_of(Path(path), "results/manifest.json") == Path()
    assert files.seen_from(Path(), Path(path)) == path
