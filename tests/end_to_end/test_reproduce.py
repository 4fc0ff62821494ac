"""Protects the promise of the same bytes: a second build differs in all that must not matter."""

import hashlib
import os
import shutil
import sys
from pathlib import Path

import coremltools
import pytest
from coremltools.models import MLModel
from executorch.backends.apple.coreml import executorchcoreml
from executorch.exir._serialize._program import deserialize_pte_binary

from tests.project import Project, with_helper

pytestmark = pytest.mark.slow

# Of digits_cnn; the same on every x86-64 machine, so it stands here and not in the configuration.
TRAINED = "ab0785e6a3b578706d5da36b1e371d81c8aadc63f3fb64bbfd5a3ee5b43637da"

# Other processors, threads, hash seeds, time zones and languages; the folder is another one, too.
ELSEWHERE = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "DNNL_MAX_CPU_ISA": "AVX2",
    "OMP_NUM_THREADS": "2",
    "PYTHONHASHSEED": "4711",
    "LC_ALL": "C",
    "TZ": "Pacific/Kiritimati",
}


def python_of_another_day(folder: Path) -> Path:
    """A folder with a `python` of another date: Snakemake itself cannot wait under faketime."""
    found = shutil.which("faketime")
    if not found:
        assert "CI" not in os.environ, "CI must have faketime"
        pytest.skip("needs faketime (Debian: faketime)")
    folder.mkdir()
    wrapper = folder / "python"
    wrapper.write_text(f'#!/bin/sh\nexec {found} -f +400d {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    return folder


def test_another_folder_day_and_machine_give_the_same_bytes(built, tmp_path):
    """All results, intermediates and the manifest included: no path and no user is in them."""
    elsewhere = with_helper(Project(tmp_path / "another folder"))
    binaries = python_of_another_day(tmp_path / "bin")
    path = f"{binaries}:{elsewhere.environment()['PATH']}"
    elsewhere.build(PATH=path, **ELSEWHERE)
    assert len(built.artifacts()) == 5
    mine, theirs = built.results(), elsewhere.results()
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if mine[name] != theirs[name]] == []


def test_training_gives_known_weights(built):
    weights = (built.folder / "results/train/digits_cnn.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == TRAINED


def test_artifacts_are_valid_for_upstream(built, tmp_path):
    """What we write unpacks with upstream's own function and loads with coremltools."""
    expected = {"ios16": 7, "ios17": 8, "ios17_ne": 8}
    for number, (name, data) in enumerate(built.artifacts().items()):
        program = deserialize_pte_binary(data).program
        for blob in program.backend_delegate_data:
            folder = tmp_path / str(number)
            folder.mkdir()
            executorchcoreml.unflatten_directory_contents(bytes(blob.data), str(folder))
            (package,) = folder.rglob("*.mlpackage")
            spec = MLModel(str(package), skip_model_load=True).get_spec()
            target = name.rsplit("/", 1)[1].removesuffix(".pte")
            assert spec.specificationVersion == expected[target]
            assert coremltools.utils.load_spec(str(package)) == spec
