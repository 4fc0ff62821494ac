"""Protects what comes from the cache between workflows: whole files, and those that were put in."""

import asyncio
import os
import shlex
import subprocess
import sys
from types import SimpleNamespace

import pytest
from pte_foundry.upstream.snakemake_output_cache import copy_and_check, give_to_jobs
from snakemake.caching.local import OutputFileCache
from snakemake.caching.storage import OutputFileCache as StorageCache
from snakemake.exceptions import CacheMissException
from snakemake.io import AnnotatedString
from snakemake.spawn_jobs import SpawnedJobArgsFactory

from tests.storage_folder import Provider

WORKFLOW = """\
from pte_foundry.upstream.snakemake_output_cache import copy_and_check
{patch}

rule one:
    output: first="first.txt", second="second.txt"
    cache: "omit-software"
    shell: "echo one > {{output.first}}; echo two > {{output.second}}; echo ran >> ran"
"""
PATCH = "copy_and_check()"


def build(folder, cache, patch=PATCH):
    """What Snakemake prints, and whether the rule ran."""
    folder.mkdir()
    cache.mkdir(exist_ok=True)
    (folder / "Snakefile").write_text(WORKFLOW.format(patch=patch))
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", "--cache"],
        cwd=folder,
        env=os.environ | {"SNAKEMAKE_OUTPUT_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "first.txt").read_text() == "one\n"
    assert (folder / "second.txt").read_text() == "two\n"
    return done.stderr, (folder / "ran").exists()


def test_snakemake_still_leaves_links(tmp_path):
    """If this fails, the cache gives copies: see whether it checks them, and remove the patch."""
    build(tmp_path / "a", tmp_path / "cache", patch="")
    assert (tmp_path / "a/first.txt").is_symlink()


def test_files_are_real_and_come_from_the_cache(tmp_path):
    assert build(tmp_path / "a", tmp_path / "cache")[1]
    assert not build(tmp_path / "b", tmp_path / "cache")[1]
    for folder in ("a", "b"):
        file = tmp_path / folder / "second.txt"
        assert file.is_file()
        assert not file.is_symlink()
        assert file.stat().st_nlink == 1, "a write to it would change the cache"


@pytest.mark.parametrize("damage", ["truncated", "poisoned", "without its checksum", "missing"])
def test_a_damaged_entry_is_made_anew(tmp_path, damage):
    cache = tmp_path / "cache"
    build(tmp_path / "a", cache)
    (entry,) = cache.glob("*_second.txt")
    if damage == "missing":
        entry.unlink()
    elif damage == "without its checksum":
        entry.with_name(f"{entry.name}.sha256").unlink()
    else:
        entry.write_text("tw" if damage == "truncated" else "bad\n")
    printed, ran = build(tmp_path / "b", cache)
    assert ran
    assert ("damaged in the cache" in printed) == (damage != "missing")
    assert entry.read_text() == "two\n"
    assert not build(tmp_path / "c", cache)[1]


class InStorage:
    """A cache in a storage, and one job with one output."""

    def __init__(self, folder, monkeypatch):
        monkeypatch.setenv("SNAKEMAKE_OUTPUT_CACHE", "mem://cache")
        self.cache = StorageCache(Provider(folder / "buckets", folder / "copies"))

        async def hashed(job):
            return "0a1b"

        self.cache.provenance_hash_map.get_provenance_hash = hashed
        self.entry = folder / "buckets" / "cache" / "0a1b.pt2"
        self.output = folder / "copies" / "model.pt2"
        self.output.parent.mkdir()
        file = AnnotatedString(self.output)
        file.is_multiext = False
        self.job = SimpleNamespace(rule=SimpleNamespace(output=[file]), output=[str(file)])

    def store(self, content):
        self.output.write_bytes(content)
        asyncio.run(self.cache.store(self.job))
        self.output.unlink()

    def fetch(self):
        asyncio.run(self.cache.fetch(self.job))
        return self.output.read_bytes()


def test_snakemake_still_takes_any_object_from_a_storage(tmp_path, monkeypatch, restored):
    """If this fails, the cache in a storage checks its objects: remove that repair."""
    stored = InStorage(tmp_path, monkeypatch)
    stored.store(b"whole")
    stored.entry.write_bytes(b"wh")
    assert stored.fetch() == b"wh"


@pytest.mark.parametrize("damage", ["truncated", "poisoned", "without its checksum", "missing"])
def test_a_damaged_object_is_a_miss_and_leaves_nothing(tmp_path, monkeypatch, restored, damage):
    copy_and_check()
    stored = InStorage(tmp_path, monkeypatch)
    stored.store(b"whole")
    assert stored.fetch() == b"whole"
    if damage == "missing":
        stored.entry.unlink()
    elif damage == "without its checksum":
        stored.entry.with_name(f"{stored.entry.name}.sha256").unlink()
    else:
        stored.entry.write_bytes(b"wh" if damage == "truncated" else b"other")
    with pytest.raises(CacheMissException):
        stored.fetch()
    assert not stored.output.exists()
    stored.store(b"whole")
    assert stored.fetch() == b"whole"


@pytest.fixture
def restored(monkeypatch):
    for cache in (OutputFileCache, StorageCache):
        for name in {"store", "fetch", "exists", "symlink"} & vars(cache).keys():
            monkeypatch.setattr(cache, name, getattr(cache, name))


def test_it_is_installed_once(restored):
    copy_and_check()
    once = OutputFileCache.fetch
    copy_and_check()
    assert OutputFileCache.fetch is once


def given_to_jobs(cache, repair):
    """The option that a job on a cluster gets of ``--cache`` in a workflow with one cached rule."""
    rules = [
        SimpleNamespace(name=name, cache=SimpleNamespace(output=name == "slow"))
        for name in ("cheap", "slow")
    ]
    workflow = SimpleNamespace(rules=rules, workflow_settings=SimpleNamespace(cache=cache))
    repair(workflow)
    argument = SpawnedJobArgsFactory(workflow).workflow_property_to_arg("workflow_settings.cache")
    return shlex.split(argument or "")


def test_snakemake_still_does_not_tell_jobs_of_a_cache_for_all_rules():
    """If this fails, remove ``give_to_jobs``."""
    assert given_to_jobs([], repair=lambda _: None) == []


@pytest.mark.parametrize(
    ("cache", "given"),
    [([], ["--cache", "slow"]), (["fast"], ["--cache", "fast"]), (None, [])],
)
def test_jobs_on_a_cluster_use_the_cache_of_the_run(cache, given):
    assert given_to_jobs(cache, give_to_jobs) == given
