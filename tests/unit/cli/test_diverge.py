"""Protects ``pte-foundry diverge``: which files it finds, and what it says if there are none."""

import json
import shutil

import pytest
from pte_foundry.cli import main
from pte_foundry.files import read_json, write_json
from pte_foundry.lowering import edge_program
from pte_foundry.lowering.coreml import lower
from pte_foundry.models import programs
from pte_foundry.models.tensors import Samples
from pte_foundry.report import text

from tests.unit.lowering.test_lowering import TARGET
from tests.unit.validate.test_divergence_lowered import IMAGES, Residual, exported

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A results folder with one artifact, and another lowered program of the same recipe."""
    results = tmp_path_factory.mktemp("results")
    program = exported(Residual(), IMAGES[0])
    edge = edge_program.make(program, [])
    artifact, lowered = (results / stage / "net/fp16" for stage in ("pte", "lower"))
    artifact.mkdir(parents=True)
    lowered.mkdir(parents=True)
    (artifact / "ios18.pte").write_bytes(lower(edge, TARGET))
    shutil.copyfile(artifact / "ios18.pte", lowered / "key.pte")
    other = lower(edge, TARGET | {"compute_precision": "float32"})
    (lowered / "another.pte").write_bytes(other)
    write_json(lowered / "key.json", {"operators": edge.debug_handles})
    programs.save(program, results / "export/net.pt2")
    Samples(IMAGES, [], None).save(results / "reference/net.safetensors")
    return results


@pytest.fixture
def results(built, tmp_path):
    """A copy to edit."""
    return shutil.copytree(built, tmp_path / "results")


@pytest.fixture
def call(capfd):
    def call(*arguments):
        code = main(["diverge", *map(str, arguments)])
        return code, *capfd.readouterr()

    return call


def test_the_artifact_alone_is_enough_in_a_results_folder(results, call, tmp_path):
    output = tmp_path / "report.json"
    artifact = results / "pte/net/fp16/ios18.pte"
    code, out, err = call(artifact, "--layers", "3", "--output", output)
    report = read_json(output)
    assert (code, err) == (0, "")
    assert report["samples"] == 4
    for layer in report["layers"][:3]:
        assert text.layer(layer["layer"]) in out
    assert f"and {len(report['layers']) - 3} more layers" in out

    given = [f"--debug-handles={results}/lower/net/fp16/key.json"]
    given += [f"--program={results}/export/net.pt2"]
    given += [f"--reference={results}/reference/net.safetensors", "--samples=1", "--json"]
    elsewhere = shutil.move(artifact, tmp_path / "ios18.pte")
    printed = json.loads(call(elsewhere, *given)[1])
    assert printed["samples"] == 1
    assert printed["artifact"]["path"] == str(elsewhere)


def test_an_artifact_whose_lowered_program_is_gone_names_the_fix(results, call):
    (results / "lower/net/fp16/key.pte").unlink()
    code, _, err = call(results / "pte/net/fp16/ios18.pte")
    assert code == 1
    assert f"1 lowered programs in {results}/lower/net/fp16, and none has" in err
    assert "--program, --reference and --debug-handles" in err


def test_files_that_are_missing_are_named_at_once(results, call):
    (results / "export/net.pt2").unlink()
    (results / "reference/net.safetensors").unlink()
    code, _, err = call(results / "pte/net/fp16/ios18.pte")
    assert code == 1
    listed = f"{results}/export/net.pt2, {results}/reference/net.safetensors"
    assert err.startswith(f"error: missing: {listed}. Build the artifact again")


def test_an_artifact_outside_of_a_results_folder_names_the_fix(results, call, tmp_path):
    code, _, err = call(shutil.copy(results / "pte/net/fp16/ios18.pte", tmp_path / "a.pte"))
    assert (code, "Expected an artifact in its results folder" in err) == (1, True)
    assert call(tmp_path / "none.pte")[0] == 1


@pytest.mark.parametrize("layers", ["0", "-1", "many"])
def test_a_number_of_layers_is_above_zero(call, layers):
    code, _, err = call("a.pte", f"--layers={layers}")
    assert (code, f"{layers!r}: expected a whole number above 0" in err) == (2, True)
