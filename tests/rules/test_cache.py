"""Protects ``--cache``: another clone takes what it can from it, to the same bytes."""

import pytest

from tests.project import Project

pytestmark = pytest.mark.slow

PTE = "results/pte/digits_cnn/fp16/ios16.pte"


def test_a_second_clone_takes_intermediates_from_the_cache_unless_they_are_damaged(built, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()

    def clone(name):
        project = Project(tmp_path / name)
        project.build(PTE, "--until", "pte", "--cache", SNAKEMAKE_OUTPUT_CACHE=str(cache))
        return project

    first = clone("first")
    (lowered,) = cache.glob("*_pte.pte")
    lowered.write_bytes(lowered.read_bytes()[:-1])
    second = clone("second")
    assert first.artifacts() == second.artifacts() == {PTE: built.artifacts()[PTE]}
    # The log of what comes from the cache is empty.
    logs = second.folder / "logs"
    steps = {"model", "fetch", "train", "export", "edge", "lower", "pte"}
    ran = {step for step in steps if any(f.stat().st_size for f in logs.glob(f"{step}/**/*.log"))}
    assert ran == {"model", "lower", "pte"}
    assert not [path for path in second.folder.glob("results/**/*") if path.is_symlink()]
    assert second.jobs(PTE, "--until", "pte") == set()
