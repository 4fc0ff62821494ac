"""Protects the names of files in a storage: those of a run without one, as Snakemake maps them."""

import logging
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from pte_foundry.upstream.snakemake_storage import Storage, StorageError, source
from pte_foundry.upstream.versions import UpstreamError
from snakemake.api import Workflow
from snakemake.io import IOFile, ancient, local
from snakemake.jobs import Job
from snakemake.path_modifier import PathModifier
from snakemake.settings.types import StorageSettings
from snakemake.storage import StorageRegistry
from snakemake_storage_plugin_s3 import StorageProvider, StorageProviderSettings

from tests.storage_folder import Provider, storage_in

NAME = "results/pte/m/fp16/ios18.pte"


def workflow(provider, prefix, name=None):
    return SimpleNamespace(
        storage_registry=SimpleNamespace(default_storage_provider=provider),
        storage_settings=StorageSettings(
            default_storage_provider=name, default_storage_prefix=prefix
        ),
        pathvars=SimpleNamespace(apply=str),
    )


def test_snakemake_still_has_the_attributes():
    assert isinstance(vars(Workflow)["storage_registry"], property)
    assert Workflow.__dataclass_fields__["storage_settings"]
    assert "default_storage_provider" in StorageRegistry.attrs


def runs_where_it_is_scheduled(given):
    """Whether a job with an input does, if no file system is shared."""
    run = SimpleNamespace(
        storage_settings=StorageSettings(shared_fs_usage=frozenset()), is_local=lambda rule: False
    )
    inputs = [IOFile("results/model/m.json"), IOFile(given)]
    job = SimpleNamespace(dag=SimpleNamespace(workflow=run), rule=None, input=inputs, output=[])
    return vars(Job)["is_local"].fget(job)


def test_local_still_keeps_jobs_from_other_machines():
    """If this fails, ``local()`` says only where the file is: remove ``source``."""
    assert runs_where_it_is_scheduled(local("envs/requirements.lock"))


def test_a_source_file_is_not_in_the_storage_and_its_job_runs_anywhere():
    given = source("envs/requirements.lock")
    assert not runs_where_it_is_scheduled(given)
    modifier = PathModifier(None, None, workflow(None, "s3://bucket", "s3"))
    assert modifier.modify(given) is given
    assert modifier.modify(ancient([given])[0]) is given


@pytest.mark.parametrize("prefix", ["s3://bucket/results/run", "s3://bucket/run/", "s3://bucket"])
def test_names_are_those_that_snakemake_gives_files_in_s3(tmp_path, prefix):
    plugin = StorageProvider(
        local_prefix=tmp_path / "s3",
        logger=logging.getLogger(),
        settings=StorageProviderSettings(region="us-east-1"),
    )
    run = workflow(plugin, prefix, "s3")
    storage = Storage.of(run, Path())
    snakemakes = PathModifier(None, None, run).apply_default_storage(NAME)
    assert storage.base / NAME == tmp_path / "s3" / prefix.removeprefix("s3://") / NAME
    assert str(storage.base / NAME) == str(IOFile(snakemakes))
    assert storage.name(IOFile(snakemakes)) == NAME
    ours, theirs = IOFile(storage.file(NAME)), IOFile(snakemakes)
    assert ours.storage_object.query == theirs.storage_object.query, "else records are not found"


def test_other_files_keep_their_paths(tmp_path):
    storage = storage_in(tmp_path / "buckets", tmp_path / "copies")
    for file in ("config/models/net.py", "../results/x", str(tmp_path / "x")):
        assert storage.name(file) == file


def test_a_run_without_storage_or_with_a_prefix_that_snakemake_refuses_has_none(tmp_path):
    assert Storage.of(workflow(None, None), Path()) is None
    assert Storage.of(workflow(Provider(tmp_path, tmp_path), "s3:/typo"), Path()) is None
    assert Storage.of(workflow(Provider(tmp_path, tmp_path), None), Path()) is None


def test_a_plugin_that_renames_local_copies_is_refused(tmp_path):
    class Hashing(Provider):
        def object(self, query):
            made = super().object(query)
            made.local_path = lambda: tmp_path / "0a1b2c"
            return made

    with pytest.raises(StorageError, match="only plugins work whose local copies have the names"):
        Storage(Hashing(tmp_path, tmp_path), "mem://bucket")


def test_what_is_stored_is_read_again_and_an_old_copy_replaced(tmp_path):
    storage = storage_in(tmp_path / "buckets", tmp_path / "copies")
    assert (storage.exists(NAME), storage.size(NAME)) == (False, None)
    assert not storage.path(NAME).exists()
    copy = storage.base / NAME
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"new")
    storage.store(NAME)
    assert (storage.exists(NAME), storage.size(NAME)) == (True, 3)
    copy.write_bytes(b"old")
    os.utime(copy, (1, 1))
    assert storage.path(NAME).read_bytes() == b"new"
    copy.unlink()
    assert storage.path(NAME).read_bytes() == b"new"
    storage.remove(NAME)
    storage.remove(NAME)
    assert (storage.exists(NAME), copy.exists()) == (False, False)


def test_an_error_of_the_storage_is_told_in_a_sentence(tmp_path):
    storage = storage_in(tmp_path / "buckets", tmp_path / "copies")
    storage._provider.down = True
    expected = (
        r"^the storage of the results cannot be used: mem://bucket/run/x: "
        r"ConnectionError: no route to host$"
    )
    for act in (storage.exists, storage.size, storage.path, storage.remove):
        with pytest.raises(StorageError, match=expected):
            act("x")


def test_a_workflow_without_an_attribute_is_refused_with_the_name_of_the_file():
    with pytest.raises(UpstreamError, match=r"storage_registry does not exist.*snakemake_storage"):
        Storage.of(SimpleNamespace(), Path())
