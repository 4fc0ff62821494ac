"""Protects ``pte-foundry inspect``, ``run`` and ``ops``: results, output, and messages.

The packages are made by coremltools, saved, and handled as a user's own would be.
"""

import json
import os
import shutil
import subprocess
import sys
import types
from dataclasses import dataclass

import numpy as np
import pytest
from pte_foundry.errors import ProgramError
from pte_foundry.mil import Program
from pte_foundry.upstream.coremltools_protobuf import Model_pb2

from tests.mil.mil_cases import HALF, SINGLE
from tests.project import ROOT


@pytest.fixture
def array(tmp_path):
    def array(name, *values, dtype=SINGLE):
        np.save(tmp_path / name, np.array(values, dtype))
        return tmp_path / name

    return array


def test_a_single_input_needs_no_name_and_its_output_is_that_of_the_library(
    call, single, array, tmp_path
):
    x = np.arange(10, dtype=SINGLE)[None]
    code, out, err = call(
        "run", single, "--input", array("x.npy", *x), "--output", tmp_path / "o.npz"
    )
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()][1][:5] == ["out", "1", "×", "64", "float32"]
    expected = Program.load(single).run({"x": x})["out"]
    np.testing.assert_array_equal(np.load(tmp_path / "o.npz")["out"], expected)


def test_several_inputs_by_name_or_from_one_file_and_outputs_into_a_folder(
    call, several, array, tmp_path
):
    one, two = array("one.npy", 1, 2, 3), array("two.npy", 4, 0, 6)
    code, out, _ = call(
        "run", several, "--input", f"a={one}", "--input", f"b={two}", "--output", tmp_path / "made"
    )
    assert code == 0
    assert np.load(tmp_path / "made" / "sum.npy").tolist() == [5, 2, 9]
    assert "ratio: 1 of its values are inf or nan" in out
    np.savez(tmp_path / "both.npz", a=np.load(one), b=np.load(two))
    code, out, _ = call("run", several, "--input", tmp_path / "both.npz", "--json")
    assert code == 0
    assert json.loads(out)["ratio"] == {
        "shape": [3], "dtype": "float32", "min": 0.25, "max": 0.5, "nonfinite": 1
    }  # fmt: skip


def test_states_go_on_from_the_file_that_the_last_run_left(call, stateful, array, tmp_path):
    x, state = array("x.npy", 1, 2, dtype=HALF), tmp_path / "s.npz"
    for _ in range(2):
        assert call("run", stateful, "--input", x, "--state", state)[0] == 0
    assert np.load(state)["total"].tolist() == [2, 4]
    _, out, _ = call("run", stateful, "--input", x, "--json")  # without the file: from zero
    assert json.loads(out)["out"]["max"] == 2
    np.savez(state, other=np.zeros(2, HALF))
    code, _, err = call("run", stateful, "--input", x, "--state", state)
    assert (code, "unknown states ['other']; there are total" in err) == (1, True)


def test_a_function_is_named_where_there_is_a_choice(call, functions, array):
    x = array("x.npy", 1, 2, 3)
    code, _, err = call("run", functions, "--input", x)
    assert (code, err) == (
        1,
        "error: which one? Name it with --function or --method: doubled, halved\n",
    )
    _, out, _ = call("run", functions, "--input", x, "--function", "doubled", "--json")
    assert json.loads(out)["out"]["max"] == 6
    code, _, err = call("run", functions, "--input", x, "--function", "tripled")
    assert (code, "no function 'tripled'; there are doubled, halved" in err) == (1, True)


def test_an_optional_input_takes_its_default_or_what_is_given(call, optional, array):
    x, mask = array("x.npy", 1, 2), array("mask.npy", 1, 2, 3, 4)
    given = ["--input", f"x={x}", "--input", f"mask={mask}", "--json"]
    assert json.loads(call("run", optional, *given)[1])["out"]["max"] == 4
    gain = ["--input", f"gain={array('gain.npy', 10)}"]
    assert json.loads(call("run", optional, *given, *gain)[1])["out"]["max"] == 20


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "missing input 'a', fp32[3]; missing input 'b', fp32[3]"),
        (["{a}"], "which input is it? Write NAME="),
        (["a={a}", "b={wrong}"], "input 'b' is float32[4], expected fp32[3]"),
        (["a={a}", "b={double}"], "input 'b' is float64[3], expected fp32[3]"),
        (["a={a}", "b={a}", "c={a}"], "unknown input 'c'; the program takes a, b"),
        (["a={a}", "a={a}"], "the input 'a' is given twice"),
        (["a={a}", "b=nowhere.npy"], "nowhere.npy: no such file"),
        (["a={a}", "b={text}"], "is not a file of arrays that numpy can read"),
        (["a={a}", "b={objects}"], "is not a file of arrays that numpy can read"),
        (["a={a}", "b={npz}"], "is a .npz of several arrays, expected a .npy of one"),
    ],
)
def test_wrong_inputs_are_one_message(call, several, array, tmp_path, inputs, message):
    (tmp_path / "text.npy").write_text("1 2 3")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.savez(tmp_path / "some.npz", b=np.zeros(3, SINGLE))
    files = {
        "a": array("a.npy", 1, 2, 3),
        "wrong": array("wrong.npy", 1, 2, 3, 4),
        "double": array("double.npy", 1, 2, 3, dtype=np.float64),
        "text": tmp_path / "text.npy",
        "objects": tmp_path / "objects.npy",
        "npz": tmp_path / "some.npz",
    }
    given = [part for text in inputs for part in ("--input", text.format(**files))]
    code, out, err = call("run", several, *given)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["run", "inspect"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.mlpackage", "there is no such file"),
        ("nothing.pte", "there is no such file"),
        ("empty.mlpackage", "is not an .mlpackage"),
        ("text.mlpackage", "is not an .mlpackage"),
        ("text.pte", "not an ExecuTorch program"),
        ("empty.pte", "not an ExecuTorch program"),
    ],
)
def test_what_is_no_model_is_refused(call, tmp_path, command, name, message):
    (tmp_path / "empty.mlpackage").mkdir()
    (tmp_path / "empty.pte").touch()
    for text in ("text.mlpackage", "text.pte"):
        (tmp_path / text).write_text("a text, and not a model")
    code, out, err = call(command, tmp_path / name)
    assert (code, out) == (1, "")
    assert message in err


def test_a_stateless_program_has_no_use_for_a_file_of_states(call, several, array, tmp_path):
    a = array("a.npy", 1, 2, 3)
    code, _, err = call(
        "run", several, "--input", f"a={a}", "--input", f"b={a}", "--state", tmp_path / "s.npz"
    )
    assert (code, err) == (1, "error: 'main' has no states for --state\n")


def test_inspection_says_what_is_stored_and_what_it_becomes(call, single):
    described = json.loads(call("inspect", single, "--json")[1])
    main_function = described["functions"]["main"]
    assert described["specification_version"] == 9
    assert main_function["opset"] == "iOS18"
    assert main_function["inputs"] == [
        {"name": "x", "type": "fp32[1, 10]", "accepts": "fp32[1, 10]"}
    ]
    assert main_function["outputs"] == [{"name": "out", "type": "fp32[1, 64]"}]
    assert main_function["ops"]["linear"] == 2
    assert main_function["weight_bytes"]["int4"] == 64 * 10 // 2
    assert main_function["weight_bytes"]["uint4"] == 64 * 64 // 2
    assert main_function["decompressed_bytes"]["float32"] >= 4 * (640 + 4096)
    assert main_function["unsupported"] == {}
    text = call("inspect", single)[1]
    assert "320 B int4" in text
    assert "constexpr_lut_to_dense" in text


def test_inspection_shows_flexible_and_optional_inputs_states_and_functions(
    call, optional, stateful, functions
):
    (x, mask, gain) = json.loads(call("inspect", optional, "--json")[1])["functions"]["main"][
        "inputs"
    ]
    assert (x["ranges"], mask["shapes"], gain["default"]) == ([[2, 5]], [[4], [6]], 2)
    text = call("inspect", optional)[1]
    for part in ("fp32[2..5]", "in the shapes [4], [6]", "fp32[1], 2 if left out"):
        assert part in text
    described = json.loads(call("inspect", stateful, "--json")[1])["functions"]["main"]
    assert described["states"] == [{"name": "total", "type": "fp16[2]"}]
    assert list(json.loads(call("inspect", functions, "--json")[1])["functions"]) == [
        "doubled",
        "halved",
    ]


def edited(package, edit):
    """The package's model after an edit, back in its place."""
    file = package / "Data" / "com.apple.CoreML" / "model.mlmodel"
    model = Model_pb2.Model.FromString(file.read_bytes())
    edit(model)
    file.write_bytes(model.SerializeToString())
    return package


def test_texts_of_a_file_are_printed_as_they_are_but_for_control_characters(
    call, functions, tmp_path
):
    """No markup, no emoji, and nothing that rewrites what a terminal shows."""

    def edit(model):
        model.description.metadata.shortDescription = "[bold]x[/bold] [/] :cat: \x1b[2Ja\n\u202eb"
        model.description.metadata.userDefined["[red]key\x07"] = "value"
        for function in model.mlProgram.functions.values():
            for operation in function.block_specializations[function.opset].operations:
                if operation.type == "mul":
                    operation.type = "mul[/]\x9b2J"

    package = edited(shutil.copytree(functions, tmp_path / "model.mlpackage"), edit)
    _, out, _ = call("inspect", package)
    assert "[bold]x[/bold] [/] :cat: \\x1b[2Ja\\n\\u202eb" in out
    assert "[red]key\\x07" in out
    assert "mul[/]\\x9b2J not supported" in out
    assert json.loads(call("inspect", package, "--json")[1])["metadata"]["[red]key\x07"] == "value"
    code, _, err = call("run", package, "--function", "doubled")
    assert (code, "mul[/]\\x9b2J (iOS18) x" in err) == (1, True), err
    assert not any(character < " " for character in (out + err).replace("\n", ""))


def test_all_unsupported_operations_of_all_functions_are_named_at_once(functions):
    model = functions / "Data" / "com.apple.CoreML" / "model.mlmodel"
    broken = Model_pb2.Model.FromString(model.read_bytes())
    for name, function in broken.mlProgram.functions.items():
        for operation in function.block_specializations[function.opset].operations:
            if operation.type == "mul":
                operation.type = f"{name}_op"
    with pytest.raises(ProgramError) as error:
        Program.from_parts(broken.SerializeToString(), None)
    assert str(error.value) == (
        "unsupported operations: doubled_op (iOS18) x1, halved_op (iOS18) x1"
    )


@dataclass
class Row:
    op: str
    family: str
    versions: dict[str, str]


def test_the_table_of_operations_tells_versions_and_reasons(call, monkeypatch):
    coverage = types.ModuleType("pte_foundry.mil.coverage")
    coverage.table = lambda: [
        Row("gather", "scatter_gather", {"iOS15": "iOS15", "iOS16": "iOS15", "iOS17": "iOS17"}),
        Row("list_read", "control_flow", {"iOS15": "no ML program holds lists"}),
    ]
    monkeypatch.setitem(sys.modules, "pte_foundry.mil.coverage", coverage)
    monkeypatch.setattr("pte_foundry.mil.coverage", coverage, raising=False)
    code, out, _ = call("ops")
    lines = [line.split() for line in out.splitlines()]
    assert code == 0
    assert lines[1] == ["gather", "scatter_gather", "✓", "new", "✓", "✓", "new", "–", "–"]
    assert lines[2] == ["list_read", "control_flow", "no", "–", "–", "–", "–"]
    assert out.splitlines()[3] == "list_read: no ML program holds lists"
    assert json.loads(call("ops", "--json")[1])[1]["versions"] == {
        "iOS15": "no ML program holds lists"
    }


@pytest.mark.parametrize("module", ["pte_foundry", "pte_foundry.cli"])
def test_the_command_runs_as_a_module(several, module):
    done = subprocess.run(
        [sys.executable, "-P", "-m", module, "inspect", str(several)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert "real_div" in done.stdout
