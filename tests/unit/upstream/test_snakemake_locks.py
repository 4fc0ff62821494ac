"""Protects that the locks of a killed Snakemake are found where Snakemake writes them."""

from types import SimpleNamespace

from pte_foundry.upstream.snakemake_locks import LOCKS, locks, remove_locks
from snakemake.persistence.file import FilePersistence


def test_what_snakemake_writes_is_found_and_nothing_else_removed(tmp_path, monkeypatch):
    """If this fails, Snakemake names its locks in another way."""
    monkeypatch.chdir(tmp_path)
    assert locks(tmp_path) == []
    # The parts of a persistence without a workflow: the folder, and what it has locked.
    persistence = SimpleNamespace(_lockdir=str(LOCKS), _lockfile={})
    LOCKS.mkdir(parents=True)
    (LOCKS / "0.notes").touch()
    for kind in ("input", "output", "input"):
        FilePersistence._write_locks(persistence, kind, ["a.pte"])
    assert [path.name for path in locks(tmp_path)] == [
        "0.input.lock",
        "0.output.lock",
        "1.input.lock",
    ]
    assert len(list(FilePersistence._read_locks(persistence))) == 3
    remove_locks(tmp_path)
    assert [path.name for path in LOCKS.iterdir()] == ["0.notes"]
    assert list(FilePersistence._read_locks(persistence)) == []
