"""Protects reproducible bytes: what computes the same is the same, what differs differs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pte_foundry import canonical_json
from pte_foundry.errors import ProgramError
from pte_foundry.formats import coreml_delegate as coreml
from pte_foundry.formats import pte_schema
from pte_foundry.formats.canonical_pte import canonical, canonical_pte
from pte_foundry.formats.delegate_blob import read_blob, write_blob, write_files
from pte_foundry.formats.mlpackage import parse_model
from pte_foundry.formats.pte_file import PteFile, read_pte

ROOT = Path(__file__).resolve().parents[3]


def blob_of(pte: bytes) -> bytes:
    file = read_pte(pte)
    return bytes(file.delegate_data(file.plans["forward"].delegates[0]))


def metadata_of(blob: bytes) -> dict:
    return coreml.CoreMLModel(read_blob(blob).files).metadata


def test_two_lowerings_become_the_same_bytes(small):
    assert small["first"] != small["again"]  # else there is nothing to do here any more
    first = canonical_pte(small["first"], "all")
    assert first == canonical_pte(small["again"], "all")
    assert first == canonical_pte(first, "all")
    assert canonical(canonical(blob_of(first))) == blob_of(first)


def test_the_build_of_torch_does_not_count(small):
    """Its label is in two places of a program; the version itself stays."""
    version, _, build = torch.__version__.partition("+")
    if not build:
        pytest.skip("this build of torch has no label")
    blob = blob_of(small["first"])
    other = blob.replace(f"{version}+{build}".encode(), f"{version}+{'x' * len(build)}".encode())
    assert other != blob
    assert canonical(other) == canonical(blob)
    assert f"torch=={version}".encode() in canonical(blob)
    assert f"+{build}".encode() not in canonical(blob)


def test_compute_units_change_only_their_compile_spec(small):
    everything = read_pte(canonical_pte(small["first"], "all"))
    engine = canonical_pte(small["first"], "cpu_and_ne")
    found = read_pte(engine)
    assert [bytes(s) for s in found.segments] == [bytes(s) for s in everything.segments]
    assert _specs(found) == {**_specs(everything), "compute_units": b"cpu_and_ne"}
    with pytest.raises(ProgramError, match="cpu_and_gpu, cpu_and_ne"):
        canonical_pte(small["first"], "gpu")


def test_lowering_for_the_units_equals_changing_them_afterwards():
    """In a process of its own, as the rules run it."""
    program = (
        "from tests.pte.programs import SMALL_INPUT, Small, lower\n"
        "from pte_foundry.formats.canonical_pte import canonical_pte\n"
        "first, engine = (lower(Small(), SMALL_INPUT, units=u) for u in ('ALL', 'CPU_AND_NE'))\n"
        "assert canonical_pte(first, 'cpu_and_ne') == canonical_pte(engine, 'cpu_and_ne')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _specs(file: PteFile) -> dict[str, bytes]:
    specs = file.plans["forward"].delegates[0].compile_specs
    return {spec.key: bytes(spec.value) for spec in specs}


def test_identifier_follows_what_is_compiled(small):
    first, changed = canonical(blob_of(small["first"])), canonical(blob_of(small["changed"]))
    identifier = metadata_of(first)["identifier"]
    assert identifier.startswith("executorch_")
    assert identifier != metadata_of(changed)["identifier"]
    assert identifier != metadata_of(canonical(blob_of(small["float32"])))["identifier"]

    files = dict(read_blob(first).files)
    files[coreml.DEBUG_INFO] = b'{"debugSymbolToHandles":{}}'
    assert metadata_of(canonical(write_blob(files)))["identifier"] == identifier
    files[coreml.METADATA] = canonical_json.canonical(
        metadata_of(first) | {"inputNames": ["other"]}
    ).encode()
    assert metadata_of(canonical(write_blob(files)))["identifier"] != identifier


def test_content_is_kept_and_still_valid(small, tmp_path: Path):
    """Upstream unpacks it, coremltools loads it, weights and program are what they were."""
    import coremltools
    from executorch.backends.apple.coreml import executorchcoreml

    before, after = blob_of(small["first"]), canonical(blob_of(small["first"]))
    assert executorchcoreml.unflatten_directory_contents(after, str(tmp_path))
    package = tmp_path / "lowered_module" / coreml.PACKAGE
    model = coremltools.models.MLModel(str(package), skip_model_load=True)
    spec = coremltools.utils.load_spec(str(package))
    assert model.get_spec().specificationVersion == spec.specificationVersion == 9
    assert "conversion_date" not in str(spec.description.metadata)
    assert "coremltools.version" in str(spec.description.metadata)

    old, new = read_blob(before).files, read_blob(after).files
    assert set(old) == set(new)
    assert old[coreml.WEIGHTS] == new[coreml.WEIGHTS]
    version, plus, build = torch.__version__.partition("+")
    original = parse_model(old[coreml.MODEL])
    assert str(original).count(f"{version}{plus}{build}") == 2
    del original.description.metadata.userDefined["com.github.apple.coremltools.conversion_date"]
    expected = str(original).replace(f"{version}{plus}{build}", version)
    assert str(parse_model(new[coreml.MODEL])) == expected
    for path in (coreml.DEBUG_INFO, coreml.HANDLES):
        assert coreml.parse_json(old[path], path) == coreml.parse_json(new[path], path)


@pytest.mark.parametrize("name", ["first", "float32", "partial", "inline", "portable", "stateful"])
def test_executorch_still_reads_it(small, name):
    from executorch.exir._serialize._program import deserialize_pte_binary
    from executorch.runtime import Runtime

    after = canonical_pte(small[name], "cpu_only")
    assert canonical_pte(after, "cpu_only") == after
    assert Runtime.get().load_program(after).method_names == {"forward"}
    plan = deserialize_pte_binary(after).program.execution_plan[0]
    before = deserialize_pte_binary(small[name]).program.execution_plan[0]
    for delegate in [*plan.delegates, *before.delegates]:
        delegate.compile_specs = []
    assert plan == before  # the same instructions, values and memory
    places = [d.processed.location for d in read_pte(after).plans["forward"].delegates]
    assert places == [
        d.processed.location for d in read_pte(small[name]).plans["forward"].delegates
    ]
    assert set(places) <= {pte_schema.INLINE if name == "inline" else pte_schema.SEGMENT}


def test_a_model_shared_by_methods_gets_a_key_made_of_its_content(shared):
    before, after = read_pte(shared), read_pte(canonical_pte(shared, "cpu_only"))
    assert canonical_pte(canonical_pte(shared, "cpu_only"), "all") == canonical_pte(shared, "all")
    [key] = after.named_data
    model, function = coreml.resolve(after, after.plans["two"].delegates[0])
    assert function == "two"
    assert key == f"coreml_{model.metadata['identifier']}"
    assert key not in before.named_data
    old, _ = coreml.resolve(before, before.plans["two"].delegates[0])
    assert old.weights == model.weights
    assert old.names("two") == model.names("two")


def test_ugly_blobs(small):
    files = dict(read_blob(blob_of(small["first"])).files)
    for path, contents in [
        (coreml.MANIFEST, b"[]"),
        (coreml.MANIFEST, b'{"itemInfoEntries":{"a":1},"rootModelIdentifier":"a"}'),
        (coreml.MANIFEST, b'{"itemInfoEntries":{},"rootModelIdentifier":"a"}'),
        (coreml.MODEL, b"\xff\xff"),
        (coreml.METADATA, b"{"),
        (coreml.DEBUG_INFO, b"[" * 100_000),
        (coreml.DEBUG_INFO, b'{"a": NaN}'),
    ]:
        with pytest.raises(ProgramError):
            canonical(write_blob({**files, path: contents}))
    del files[coreml.METADATA]
    with pytest.raises(ProgramError, match=r"no metadata\.json"):
        canonical(write_blob(files))


def test_writing_files_stays_in_the_folder(tmp_path: Path):
    with pytest.raises(ProgramError, match="safe name"):
        write_files({"../x": b""}, tmp_path / "inside")
    assert not (tmp_path / "x").exists()
