"""Protects dynamic and enumerated sizes: a range that starts with 1, samples of every length."""

import subprocess
import sys

import pytest
from pte_foundry.errors import ModelError
from pte_foundry.files import write_json
from pte_foundry.lowering import edge_program
from pte_foundry.models.export import export
from pte_foundry.models.imports import follow
from pte_foundry.models.inference import reference
from pte_foundry.models.inputs import declared_table, inputs_table
from pte_foundry.models.module import ModelModule
from pte_foundry.models.tensors import save_tensors

MODULE = """
import torch
from torch.export import Dim

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(3, 3)
        self.register_buffer("held", torch.zeros(1, 3))

    def forward(self, x, position):
        {body}

def build():
    return Net().eval()

def example_inputs():
    return torch.ones(1, {example}, 3), torch.arange({example})

def dynamic_shapes():
    return {shapes}

def evaluation():
    sizes = {samples}
    return [(torch.ones(1, a, 3), torch.arange(b)) for a, b in sizes], None
"""
RANGE = "Dim('t', min=1, max=8)"
SHAPES = "{'x': {1: RANGE}, 'position': {0: RANGE}}"


@pytest.fixture
def load(tmp_path):
    def loaded(
        body="return self.inner(x) + position[:, None]",
        samples="[(1, 1), (8, 8)]",
        example=4,
        shapes=SHAPES,
        size=RANGE,
        own=True,
        **enumerated,
    ):
        given = {"body": body, "samples": samples, "example": example}
        text = MODULE.replace("{shapes}", shapes.replace("RANGE", size))
        for name, value in given.items():
            text = text.replace(f"{{{name}}}", str(value))
        path = tmp_path / "net.py"
        path.write_text(text if own else text.partition("def evaluation")[0])
        return ModelModule.load(path, None, {}, {}, seed=0, enumerated=enumerated)

    return loaded


def test_samples_of_every_length_run_and_the_limit_of_one_stays(load):
    model = load()
    assert [sample[0].shape[1] for sample in reference(model).inputs] == [1, 8]
    rows = inputs_table(export(model, model.build()))
    assert [row["shape"] for row in rows] == [[1, [1, 8], 3], [[1, 8]]]


@pytest.mark.parametrize(
    ("size", "expected"), [("Dim('t', max=8)", 1), ("Dim.AUTO(max=8)", 1), ("Dim('t', min=2)", 2)]
)
def test_the_lowest_size_is_that_of_the_declaration(load, size, expected):
    model = load(size=size)
    for row in inputs_table(export(model, model.build())):
        assert [size[0] for size in row["shape"] if isinstance(size, list)] == [expected]


@pytest.mark.parametrize(
    ("samples", "enumerated", "words"),
    [
        ("[(2, 2), (9, 9)]", {}, "x of sample 1 with 9 in dimension 1; allowed: 1 to 8 (t in"),
        ("[(2, 3)]", {}, "position of sample 0 with 3 in dimension 0; allowed: 2, as x has"),
        (
            "[(1, 1), (2, 2)]",
            {"x": [[1, 1, 3], [1, 4, 3]], "position": [[1], [4]]},
            "sample 1 with x [1, 2, 3], position [2]; allowed by the model's enumerated_shapes: "
            "x [1, 1, 3], position [1]; x [1, 4, 3], position [4]",
        ),
    ],
)
def test_samples_beyond_the_sizes_are_refused_before_they_run(load, samples, enumerated, words):
    with pytest.raises(ModelError) as caught:
        reference(load(samples=samples, **enumerated))
    assert words in str(caught.value)


def test_an_example_of_one_is_refused_with_the_way_out(load):
    model = load(example=1)
    with pytest.raises(ModelError, match=r"the size 1 in dimension 1.*at least 2: the program"):
        export(model, model.build())


def test_a_program_that_is_wrong_for_one_is_refused(load):
    """The model squeezes a single row away, which the traced program keeps."""
    model = load(body="return x.squeeze().sum(0) + 0 * position.sum()")
    program = export(model, model.build())
    said = r"With x \[1, 1, 3\], position \[1\], output 0 is \[\], .* as \[3\].*min=2"
    with pytest.raises(ModelError, match=said):
        edge_program.make_all({"forward": program}, [])


def test_running_at_the_ends_leaves_states_alone(load):
    body = "self.held.add_(self.inner(x).sum(1)); return self.held * 2 + position.sum()"
    model = load(body=body)
    module = model.build()
    export(model, module)
    assert not module.held.any()


@pytest.mark.parametrize(
    ("enumerated", "lengths"),
    [({}, {4, 1, 8}), ({"x": [[1, 2, 3], [1, 5, 3]], "position": [[2], [5]]}, {2, 5})],
)
def test_default_samples_have_every_length(load, enumerated, lengths):
    model = load(own=False, example=5 if enumerated else 4, **enumerated)
    samples = reference(model).inputs
    assert {tuple(map(len, (x[0], position))) for x, position in samples} == {
        (length, length) for length in lengths
    }


def test_shapes_of_several_methods_name_the_method(load):
    model = load(forward={"x": [[1, 1, 3], [1, 4, 3]], "position": [[1], [4]]})
    assert len(model.sizes().enumerated) == 2
    with pytest.raises(ModelError, match="'decode', which is no method; methods: forward"):
        load(decode={"x": [[1, 1, 3]]}).sizes()


def test_a_listed_shape_that_contradicts_a_static_size_is_refused_before_the_export(load, tmp_path):
    """The export runs it, and said that the program is not right for all sizes."""
    shapes = {"x": [[1, 4, 3], [1, 4, 2]], "position": [[4]]}
    model = load(body="return self.inner(x) * position.float()[:, None]", **shapes)
    rows = declared_table(model, model.build(), "forward")
    assert rows == inputs_table(export(load(), model.build()), ["x", "position"])
    imports = follow(tmp_path / "net.py", None, [])
    entry = {"module": None, "declared_imports": [], "imports": imports.contents()}
    entry |= {"weights": "net.safetensors", "seed": 0, "sha256": {}, "data": {}}
    entry |= {"enumerated_shapes": shapes}
    (tmp_path / "results/model").mkdir(parents=True)
    described = tmp_path / "results/model/net.json"
    write_json(described, entry)
    save_tensors(model.initialize(), tmp_path / "net.safetensors")
    step = [sys.executable, "-P", "-m", "pte_foundry.steps.export", "--slice", '{"options": {}}']
    step += ["--model", described, "--module", tmp_path / "net.py", "--digest", "0"]
    step += ["--program", tmp_path / "net.pt2", "--modules", tmp_path / "modules.json"]
    done = subprocess.run(step, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "net.enumerated_shapes.x" in done.stderr
    assert "the input was not exported for this shape" in done.stderr


TWO_METHODS = """
import torch
from torch.export import Dim

BUILT, ASKED = [], []

class Net(torch.nn.Module):
    def first(self, batch):
        return batch["x"] * 2

    def second(self, batch):
        return batch["x"] + 1

def build():
    BUILT.append(1)
    return Net().eval()

def methods():
    return {"first": SAMPLE, "second": SAMPLE}

def dynamic_shapes():
    ASKED.append(1)
    return {name: {"batch.x": {0: Dim("rows", min=1, max=9)}} for name in ("first", "second")}
"""


@pytest.mark.parametrize(
    ("sample", "built"),
    [("({'x': torch.ones(2, 3)},)", 1), ("{'batch': {'x': torch.ones(2, 3)}}", 0)],
)
def test_the_names_of_all_inputs_take_one_model_at_most(tmp_path, sample, built):
    (tmp_path / "net.py").write_text(TWO_METHODS.replace("SAMPLE", sample))
    model = ModelModule.load(tmp_path / "net.py", None, {}, {}, seed=0)
    for method in model.layouts:
        assert model.sizes(method).names == ("batch.x",)
        assert str(model.sizes(method).shapes[0][0]) == "1 to 9"
        (given,) = model.dynamic_shapes(method=method)
        assert given[0].__name__ == "rows"
    assert (len(model.module.BUILT), len(model.module.ASKED)) == (built, 1)
