"""Protects inputs and outputs of any structure: their order, and their names in every file.

A transformer takes keywords and returns a ``ModelOutput``, a segmentation network a dict. Nobody
should have to write a wrapper for that, and an app developer needs the names.
"""

import json

import pytest
import torch
from pte_foundry.errors import ModelError
from pte_foundry.lowering import edge_program
from pte_foundry.models import programs
from pte_foundry.models.export import export
from pte_foundry.models.inference import evaluate, reference
from pte_foundry.models.inputs import inputs_table
from pte_foundry.models.module import ModelModule
from pte_foundry.models.outputs import NamedSample
from pte_foundry.models.tensors import Samples
from pte_foundry.quantize import pt2e

MODULE = """
import collections
from dataclasses import dataclass
import torch
from torch import nn

Pair = collections.namedtuple("Pair", "first second")

@dataclass
class Depth:
    disparity: torch.Tensor
    mask: torch.Tensor | None = None

class Several(list):
    pass

class Cache:
    def __init__(self, keys):
        self.keys = keys

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
    def forward({parameters}):
        {body}

def build():
    torch.manual_seed(0)
    return Net().eval()

X, Z = torch.arange(8.0).reshape(2, 4), torch.ones(2, 4)

def example_inputs():
    return {inputs}

def evaluation():
    return [example_inputs()] * 2, None
{more}
"""


@pytest.fixture
def load(tmp_path):
    def load(body, parameters="self, x", inputs="(X,)", more=""):
        path = tmp_path / "net.py"
        path.write_text(MODULE.format(body=body, parameters=parameters, inputs=inputs, more=more))
        return ModelModule.load(path, None, {}, {})

    return load


OUTPUTS = [
    ("y", None),
    ("(y, x)", None),
    ("[y, x]", None),
    ("(y, None, x)", None),
    ("{'logits': y, 'aux': x}", "logits aux"),
    ("collections.OrderedDict(logits=y, loss=None)", "logits"),
    ("{'hidden': (x, y), 'logits': y}", "hidden.0 hidden.1 logits"),
    ("(y, (x, y + 1))", "output_0 output_1.0 output_1.1"),
    ("(y, {'a': x})", "output_0 output_1.a"),
    ("Depth(y)", "disparity"),
    ("{'depth': Depth(y, x > 0)}", "depth.disparity depth.mask"),
    ("Several([y, x])", None),
    ("Pair(y, x)", "first second"),
    ("torch.topk(y, 2)", "values indices"),
    ("{'stage': {2: y, 3: x}}", "stage.2 stage.3"),
]


@pytest.mark.parametrize(("returned", "names"), OUTPUTS)
def test_outputs_are_flattened_in_order_and_named_by_their_keys(load, returned, names, tmp_path):
    model = load(f"y = self.inner(x); return {returned}")
    module = model.build()
    samples = reference(model)
    assert samples.output_names == (names.split() if names else [])
    programs.save(export(model, module), tmp_path / "net.pt2")
    program = programs.load(tmp_path / "net.pt2")
    ours, theirs = evaluate(program, samples).outputs[0], samples.outputs[0]
    assert len(ours) == len(theirs) >= 1
    assert all(map(torch.equal, ours, theirs))
    returned = program.module()(*model.example_inputs())
    assert (list(returned) if isinstance(returned, dict) else []) == samples.output_names


INPUTS = [
    ("self, x", "(X,)", "x", "self.inner(x)"),
    ("self, *, x, Mask=None", "{'x': X, 'Mask': None}", "x", "self.inner(x)"),
    ("self, x, mask", "{'mask': Z, 'x': X}", "mask x", "self.inner(x) * mask"),
    ("self, x, mask=None, scale=None", "(X, None, Z)", "x scale", "self.inner(x) * scale"),
    (
        "self, batch",
        "({'X': X, 'm': Z},)",
        "batch.X batch.m",
        "self.inner(batch['X']) * batch['m']",
    ),
    ("self, batch", "{'batch': {'x': X}}", "batch.x", "self.inner(batch['x'])"),
    ("self, *xs", "(X, Z)", "xs.0 xs.1", "self.inner(xs[0]) + xs[1]"),
    ("self, xs, add=False", "((X, Z), True)", "xs.0 xs.1", "self.inner(xs[0]) + xs[1] * add"),
    (
        "self, pair",
        "(Pair(X, Z),)",
        "pair.first pair.second",
        "pair.first - self.inner(pair.second)",
    ),
    ("self, d", "(Depth(X),)", "d.disparity", "self.inner(d.disparity)"),
    ("self, **kw", "{'x': X}", "x", "self.inner(kw['x'])"),
]


@pytest.mark.parametrize(("parameters", "inputs", "names", "body"), INPUTS)
def test_inputs_are_flattened_and_named(load, parameters, inputs, names, body, tmp_path):
    model = load(f"return {body}", parameters, inputs)
    module = model.build()
    program = export(model, module)
    assert "forward" not in vars(module), "the model itself is as before"
    rows = inputs_table(program, model.layout.names(module))
    assert [row["name"] for row in rows] == names.split()
    samples = reference(model)
    assert samples.input_names == names.split()
    assert torch.equal(evaluate(program, samples).outputs[0][0], samples.outputs[0][0])
    statistics = pt2e.calibrate(program, SETTINGS, model.evaluation()[0])
    pt2e.convert(program, SETTINGS, statistics, model.example_inputs(), model.dynamic_shapes())


SETTINGS = {"global_config": {"quantization_scheme": "symmetric"}}

WRONG = [
    ("({'x': [1.0]},)", "gave the sample as a tuple of dict: a float as 0.x.0; give a tuple of"),
    ("{'x': X, 'past': Cache(X)}", "a Cache as past; give a tuple of tensors"),
    ("(X, 3)", "an int as 1; give a tuple of tensors"),
    ("{}", "a dict of nothing; give a tuple of tensors, or a dict"),
    ("(None, True)", "a tuple of None, bool; give a tuple of tensors"),
    ("{'x': X.double()}", "gave input x of the sample as torch.float64; allowed:"),
    ("({'m': X / 0 * 0},)", "gave input 0.m of the sample with nan"),
]


@pytest.mark.parametrize(("inputs", "problem"), WRONG)
def test_inputs_that_are_no_tensors_are_named(load, inputs, problem):
    with pytest.raises(ModelError) as caught:
        load("return x", inputs=inputs).example_inputs()
    assert problem in str(caught.value)
    assert "example_inputs() gave" in str(caught.value)


OTHERS = [
    ("{'x': X, 'other': Z}", "gave sample 1 with the inputs x, other, but example_inputs() has x"),
    ("(X,)", "gave sample 1 with the inputs 0, but"),
    ("{'x': X[:1]}", "gave sample 1 as (torch.float32 [1, 4]), but"),
    ("{'x': None}", "gave sample 1 as"),
]


@pytest.mark.parametrize(("other", "problem"), OTHERS)
def test_samples_of_another_structure_are_refused(load, other, problem):
    model = load("return x", inputs="{'x': X}")
    model.module.evaluation = lambda: (
        [{"x": torch.ones(2, 4)}, eval(other, vars(model.module))],
        None,
    )
    with pytest.raises(ModelError) as caught:
        model.evaluation()
    assert f"evaluation() {problem}" in str(caught.value)


def test_fixed_inputs_are_equal_in_all_samples(load):
    model = load("return x", "self, x, flag", "(X, True)")
    model.module.evaluation = lambda: ([(torch.ones(2, 4), False)], None)
    with pytest.raises(ModelError, match=r"gave 1 of sample 0 as False, but .* True; .*fixed"):
        model.evaluation()


def test_outputs_that_differ_between_samples_are_refused(load):
    model = load("return {'x': x} if x.sum() > 0 else {'x': x, 'y': x}")
    model.module.evaluation = lambda: ([(torch.ones(2, 4),), (-torch.ones(2, 4),)], None)
    with pytest.raises(ModelError, match="for sample 1, but"):
        reference(model)


DYNAMIC = "def dynamic_shapes():\n    return {}"
ROWS = "torch.export.Dim('rows', min=2, max=9)"


@pytest.mark.parametrize(
    ("shapes", "inputs"),
    [
        ("{'batch': {'x': {0: %s}, 'm': None}}", "({'x': X, 'm': Z[0]},)"),
        ("{'batch.x': {0: %s}}", "({'x': X, 'm': Z[0]},)"),
        ("({'x': {0: %s}},)", "({'x': X, 'm': Z[0]},)"),
        ("{'batch.x': {0: %s}}", "{'batch': {'x': X, 'm': Z[0]}}"),
    ],
)
def test_dynamic_shapes_by_name(load, shapes, inputs):
    more = f"def dynamic_shapes():\n    return {shapes % ROWS}"
    model = load("return self.inner(batch['x']) + batch['m']", "self, batch", inputs, more)
    program = export(model, model.build())
    rows = inputs_table(program, model.layout.names(model.build()))
    assert [(row["name"], row["shape"]) for row in rows] == [
        ("batch.x", [[2, 9], 4]),
        ("batch.m", [4]),
    ]
    converted = pt2e.convert(
        program,
        SETTINGS,
        pt2e.calibrate(program, SETTINGS, model.evaluation()[0]),
        model.example_inputs(),
        model.dynamic_shapes(),
    )
    assert inputs_table(converted)[0]["shape"] == [[2, 9], 4]


@pytest.mark.parametrize("inputs", ["({'x': X, 'm': Z[0]},)", "{'batch': {'x': X, 'm': Z[0]}}"])
@pytest.mark.parametrize("hint", ["AUTO", "DYNAMIC"])
def test_a_hint_for_a_nested_input_keeps_the_lower_limit_of_one(load, inputs, hint):
    more = f"def dynamic_shapes():\n    return {{'batch.x': {{0: torch.export.Dim.{hint}(max=9)}}}}"
    model = load("return self.inner(batch['x']) + batch['m']", "self, batch", inputs, more)
    first, _ = inputs_table(export(model, model.build()))
    assert first["shape"] == [[1, 9], 4]


def test_dynamic_shapes_of_an_unknown_name(load):
    more = "def dynamic_shapes():\n    return {'ids': {0: 1}}"
    model = load("return batch['x']", "self, batch", "({'x': X},)", more)
    with pytest.raises(ModelError, match=r"dynamic_shapes\(\) names 'ids', .*; inputs: batch\.x"):
        export(model, model.build())


def test_own_names_of_outputs_win(load):
    more = "def output_names():\n    return ['a', 'b']"
    for returned in ("x, x * 2", "{'p': x, 'q': x * 2}"):
        model = load(f"return {returned}", more=more)
        assert reference(model).output_names == ["a", "b"]
        assert list(export(model, model.build()).module()(torch.ones(2, 4))) == ["a", "b"]


def test_functions_of_the_module_see_names(load):
    more = "def agreement(outputs, reference):\n    return {'sum': float(outputs[0]['b.0'].sum())}"
    model = load("return {'a': x, 'b': [x + 1]}", more=more)
    assert model.agreement([(torch.zeros(1), torch.ones(3))], [()], ["a", "b.0"]) == {"sum": 3.0}
    first, second = sample = NamedSample((1, 2), ["a", "b"])
    assert (first, second) == (sample["a"], sample["b"]) == (sample[0], sample[1])
    assert sample.get("c") is None
    with pytest.raises(KeyError, match="no output 'c'; outputs: a, b"):
        sample["c"]


def test_names_are_in_the_file_of_samples(tmp_path):
    samples = Samples([(torch.ones(1),)], [(torch.ones(1),)], None, ["batch.ids"], ["logits"])
    samples.save(tmp_path / "s.safetensors")
    found = Samples.load(tmp_path / "s.safetensors")
    assert (found.input_names, found.output_names) == (["batch.ids"], ["logits"])


def test_names_are_in_the_artifact_and_its_report(load, tmp_path):
    from pte_foundry.upstream.coremltools_imports import load_coremltools

    load_coremltools()
    from pte_foundry.formats.inspect_pte import describe
    from pte_foundry.lowering.coreml import lower
    from pte_foundry.mil.inspect_model import describe_model
    from pte_foundry.pte import Pte
    from pte_foundry.validate.report import validate

    from tests.unit.lowering.test_lowering import TARGET

    more = f"def dynamic_shapes():\n    return {{'batch.X': {{0: {ROWS}}}}}"
    body = "y = self.inner(batch['X']); return {'max': y, 'hidden': (y.sin(), batch['X'])}"
    model = load(body, "self, batch", "({'X': X},)", more)
    program = export(model, model.build())
    edge = edge_program.make(program, [])
    metadata = json.loads(json.dumps(edge_program.save(edge, tmp_path / "edge.pt2")))
    shapes = {"batch.X": [[2, 4], [4, 4]]}
    whole = TARGET["partitioner"] | {"lower_full_graph": True}
    loaded = edge_program.load(tmp_path / "edge.pt2", metadata)
    pte = tmp_path / "net.pte"
    pte.write_bytes(lower(loaded, TARGET | {"enumerated_shapes": shapes, "partitioner": whole}))
    assert describe(pte).output_names == {"forward": ["max", "hidden.0", "hidden.1"]}
    (function,) = describe_model(Pte.load(pte).delegates[0].model.spec)["functions"].values()
    assert [value["name"] for value in function["inputs"]] == ["batch_x"]
    assert {value["name"] for value in function["outputs"]} == {"max_", "hidden_0"}
    samples = reference(model)
    report = validate(pte, "0", model, samples, samples, metadata["debug_handles"])
    assert "error" not in report
    assert report["inputs"] == [{"name": "batch.X", "dtype": "float32", "shape": [2, 4]}]
    assert [output["name"] for output in report["outputs"]] == ["max", "hidden.0", "hidden.1"]
    assert report["metrics"]["sqnr_db"] > 50
