"""Protects the message when a storage stops answering in the middle of a run."""

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from pte_foundry.upstream import snakemake_storage_errors as repair
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_storage_plugins.exceptions import FileOrDirectoryNotFoundError
from snakemake_interface_storage_plugins.storage_object import StorageObjectRead

ASKED = ("managed_mtime", "managed_size", "managed_checksum")


def stored(exists):
    """An object of a server that answers nothing but, if at all, that it exists."""

    def gone():
        raise ConnectionError("connection refused")

    @asynccontextmanager
    async def at_once(operation):
        yield

    found = SimpleNamespace(
        print_query="s3://bucket/a",
        local_path=lambda: "a",
        exists=exists or gone,
        mtime=gone,
        size=gone,
        checksum=gone,
        _rate_limiter=at_once,
    )
    check = StorageObjectRead._raise_object_not_found_if_not_exists
    found._raise_object_not_found_if_not_exists = lambda: check(found)
    return found


def ask(name, exists=None):
    asyncio.run(getattr(StorageObjectRead, name)(stored(exists)))


@pytest.fixture
def repaired(monkeypatch):
    monkeypatch.setattr(StorageObjectRead, repair._NAME, repair._upstream)
    repair.tell_storage_errors()


def test_upstream_still_fails(monkeypatch):
    """If this fails, upstream has fixed it: remove tell_storage_errors."""
    monkeypatch.setattr(StorageObjectRead, repair._NAME, repair._upstream)
    for name in ASKED:
        with pytest.raises(ConnectionError):
            ask(name)


@pytest.mark.parametrize("name", ASKED)
def test_a_server_that_is_gone_is_told(repaired, name):
    with pytest.raises(WorkflowError, match=r"check existence of s3://bucket/a\n.*refused"):
        ask(name)


@pytest.mark.parametrize("name", ASKED)
def test_what_upstream_tells_stays(repaired, name):
    with pytest.raises(FileOrDirectoryNotFoundError):
        ask(name, exists=lambda: False)
    with pytest.raises(WorkflowError, match="Failed to get"):
        ask(name, exists=lambda: True)
