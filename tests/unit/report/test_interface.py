"""Protects what an app developer reads: names, shapes, and code that is code."""

import ast

import pytest
from pte_foundry.report import interface, snippets
from pte_foundry.report.summary import summarize

from tests.made_up_reports import output, path_of, report


def build_of(inputs: list, outputs: list | None = None) -> dict:
    made = report("minilm", "fp16", "ios18")
    (build,) = summarize({path_of(made): made})["builds"]
    outputs = made["outputs"] if outputs is None else outputs
    return build | {"inputs": inputs, "outputs": outputs}


def value(name: str, dtype: str = "float32", shape: list | None = None) -> dict:
    return {"name": name, "dtype": dtype, "shape": [1, 8] if shape is None else shape}


IDS = value("input_ids", "int64", [1, None])


def code_of(build: dict) -> dict[str, str]:
    return dict(snippets.snippets(build))


def method(name: str, inputs: list, outputs: list) -> dict:
    return {"name": name, "calls": 4, "inputs": inputs, "outputs": outputs}


def test_every_method_has_its_inputs_outputs_and_code():
    """Also where two methods have inputs of one name, and with the names that apps call."""
    step = method("decode", [value("tokens", "int32", [1, 1])], [value("logits")])
    first = method("prefill", [value("tokens", "int32", [1, 4])], [value("logits"), value("keys")])
    build = build_of([]) | {"methods": [first, step]}
    build["artifact"]["methods"] = ["decode", "prefill"]
    links, rows, code = interface.contents(build)
    assert links[0][2].endswith("methods decode, prefill")
    assert rows[0] == ["prefill input", "tokens", "int32", "[1, 4]"]
    assert [row[:2] for row in rows[2:]] == [
        ["prefill output", "keys"],
        ["decode input", "tokens"],
        ["decode output", "logits"],
    ]
    found = dict(code)
    assert list(found)[:2] == ["Swift, prefill", "Swift, decode"]
    assert 'module.execute("decode", [tokens])' in found["Swift, decode"]
    assert 'executeMethod:@"prefill"' in found["Objective-C++, prefill"]
    assert 'load_method("decode")' in found["Python, decode"]
    for name in ("prefill", "decode"):
        ast.parse(found[f"Python, {name}"])


def test_the_link_starts_at_the_page():
    ((name, target, beside),) = interface.contents(build_of([IDS]))[0]
    assert name == "ios18.pte"
    assert target == "../pte/minilm/fp16/ios18.pte"
    assert "iOS18 or later" in beside


def test_inputs_and_outputs_have_names_types_and_shapes():
    assert interface.contents(build_of([IDS, value("mask")]))[1] == [
        ["input", "input_ids", "int64", "[1, n]"],
        ["input", "mask", "float32", "[1, 8]"],
        ["output", "output_0", "float32", "[1, 10]"],
    ]


def test_inputs_have_the_sizes_that_the_artifact_takes_and_states_are_told():
    """Also of names that Core ML does not have, and of one of several methods."""
    build = build_of([value("Batch.ids", "int64", [None, 8]), value("image", shape=[1, None])])
    build["artifact"] |= {
        "states": ["held"],
        "accepts": {
            "forward": {
                "batch_ids": "int32[1.., 8]",
                "image": "fp32[1, ?] in the shapes [1, 4], [1, 6], [1, 8]",
            }
        },
    }
    rows = interface.contents(build)[1]
    assert [row[3] for row in rows] == ["[1…, 8]", "[1, 4], [1, 6] or [1, 8]", "[1, 10]", ""]
    assert rows[-1] == ["state", "held", "float16", ""]
    build["inputs"] = [value("0.größe", shape=[None])]
    build["artifact"]["accepts"] = {"forward": {"_0_gr__e": "fp32[1..9]"}}
    assert interface.contents(build)[1][0][3] == "[1…9]"
    shapes = "fp32[1, ?] in the shapes [1, 4], [1, 6], [1, 8]"
    build["artifact"]["accepts"] = {"forward": {"image": shapes}}
    inputs = [value("image", shape=[1, None])]
    build["methods"] = [method("forward", inputs, []), method("other", inputs, [])]
    assert [[row[0], row[3]] for row in interface.contents(build)[1]] == [
        ["forward input", "[1, 4], [1, 6] or [1, 8]"],
        ["other input", "[1, n]"],
        ["state", ""],
    ]


def test_code_has_the_names_of_the_artifact():
    code = code_of(build_of([IDS, value("mask")]))
    assert list(code) == ["Swift", "Objective-C++", "Python"]
    assert 'forResource: "ios18", ofType: "pte"' in code["Swift"]
    assert "Tensor<Int64>([Int64](repeating: 0, count: 1), shape: [1, 1])" in code["Swift"]
    assert "module.forward([input_ids, mask])" in code["Swift"]
    assert "forwardWithTensors:@[input_ids, mask]" in code["Objective-C++"]
    assert "shape:@[@1, @8]" in code["Objective-C++"]
    assert 'load_program("ios18.pte")' in code["Python"]


@pytest.mark.parametrize("name", ["class", "a.b[0]", "2nd", "größe", "", "let", "x-y", "module"])
def test_any_name_becomes_an_identifier(name):
    build = build_of([value(name), value(name)], [output(name, {"sqnr_db": 1.0})])
    code = code_of(build)
    tree = ast.parse(code["Python"])
    names = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id != "torch"]
    assert all(n.isascii() and n.isidentifier() for n in names)
    assigned = [n.targets[0] for n in tree.body if isinstance(n, ast.Assign)][2:]
    assert len({ast.unparse(target) for target in assigned}) == 3


def test_python_code_runs_the_file_that_ships(monkeypatch):
    """Against ExecuTorch's own interface, with a program that runs on any machine."""
    import torch
    from executorch.runtime import Runtime

    from tests.pte.programs import lower_portable

    class Sum(torch.nn.Module):
        def forward(self, first, second):
            return first + second

    shapes = ([1, 8], [1, 8])
    data = lower_portable(Sum(), tuple(torch.zeros(shape) for shape in shapes))
    code = code_of(build_of([value("first"), value("second")]))["Python"]
    load = Runtime.load_program
    monkeypatch.setattr(Runtime, "load_program", lambda self, name: load(self, data))
    names: dict = {}
    exec(code, names)
    assert torch.equal(names["output_0"], torch.zeros(1, 8))


def test_there_is_no_code_for_what_an_app_cannot_pass():
    assert snippets.snippets(build_of([])) == []
    assert snippets.snippets(build_of([value("x", "complex64")])) == []
