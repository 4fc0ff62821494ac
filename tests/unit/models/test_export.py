"""Protects what is refused before anything is written, and the messages of what cannot be exported.

Each model here was exported once, and failed in a later step with a message of upstream, or left a
``.pte`` with an output too many.
"""

import os
import re
from pathlib import Path

import pytest
import torch
from pte_foundry.errors import ModelError
from pte_foundry.models import programs
from pte_foundry.models.export import export
from pte_foundry.models.module import ModelModule
from pte_foundry.models.user_code import source_line

MODULE = """
from dataclasses import dataclass
import torch
from torch import nn
import torch.nn.functional as F

@dataclass
class Depth:
    disparity: torch.Tensor

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.register_buffer("state", torch.zeros(2, 4))
    {define}
    def forward({parameters}):
        y = self.inner(x)
        {body}

def build():
    torch.manual_seed(0)
    return Net().eval().requires_grad_(False)

def example_inputs():
    return {inputs}

def evaluation():
    return [example_inputs()], None
{more}
"""

LINE = MODULE.splitlines().index("        {body}") + 1


@pytest.fixture
def load(tmp_path):
    def load(body, parameters="self, x", inputs="(torch.ones(2, 4),)", define="", more=""):
        path = tmp_path / "net.py"
        path.write_text(
            MODULE.format(body=body, parameters=parameters, inputs=inputs, define=define, more=more)
        )
        return ModelModule.load(path, None, {}, {})

    return load


def message(model):
    with pytest.raises(ModelError) as caught:
        export(model, model.build())
    text = str(caught.value)
    assert text.startswith(str(model.path)), "the file comes first"
    assert text.count(str(model.path)) == 1, "and once"
    assert len(text.splitlines()) == 1
    return text


NOT_TENSORS = [
    ("return y, 3", "returned an int as output_1; allowed: tensors, in any nesting", "a constant"),
    ("return y, y.shape[0]", "returned an int as output_1", "leave it out"),
    ("return y, y.shape", "returned a Size as output_1", "leave it out"),
    ("return {'y': y, 'names': ['cat']}", "returned a str as names.0", "leave it out"),
    ("return Depth(y), [Depth(0.5)]", "returned a float as output_1.0.disparity", "leave it out"),
    ("return {'y': y, 'box': object()}", "returned an object as box", "in a tuple or a dict"),
    (
        "return {'y': y, 'past': [type('DynamicCache', (), {})()]}",
        "returned a DynamicCache as past.0; allowed: tensors",
        "switch the cache off with `use_cache=False`",
    ),
    ("return y.detach().numpy()", "returned a ndarray;", "without .numpy()"),
    ("return {y}", "returned a set;", "return a tuple, a list or a dict"),
    ("return (row for row in y)", "returned a generator;", "return a tuple, a list or a dict"),
    ("return {'y': y}.values()", "returned a dict_values;", "return a tuple, a list or a dict"),
    ("return {'y': y.to_sparse()}", "returned a sparse_coo tensor as y", "call .to_dense()"),
    ("y = {'x': x}; y['me'] = [y]; return y", "has a dict that contains itself as me.0", "remove"),
    ("return {'a.b': y, 'a': {'b': x}}", "has two tensors with the name 'a.b'", "rename a key"),
    ("return None", "returned None", "look for a missing `return`"),
    ("return ()", "returned a tuple of nothing", "at least one tensor"),
    ("return {'a': None}", "returned a dict of None", "at least one tensor"),
    ("return torch.complex(y, y)", "returned output 0 as torch.complex64", "torch.view_as_real"),
    ("return {'z': torch.complex(y, y)}", "returned output z as torch.complex64", "view_as_real"),
]


@pytest.mark.parametrize(("body", "problem", "fix"), NOT_TENSORS)
def test_outputs_that_are_not_tensors_are_refused(load, body, problem, fix):
    text = message(load(body))
    assert f"forward() {problem}" in text
    assert fix in text


IN_PLACE = [
    ("x.sub_(0.5).div_(0.25); return self.inner(x)", "aten.sub_.Tensor"),
    ("x[:, 0] = 1; return y", "aten.fill_.Tensor"),
    ("x.view(-1)[:3].mul_(2); return y", "aten.mul_.Tensor"),
    ("x.chunk(2)[0].add_(1); return y", "aten.add_.Tensor"),
    ("torch.add(x, 1, out=x); return y", "aten.add.out"),
    ("return y + F.relu(x, inplace=True)", "aten.relu_.default"),
    ("x.float().clamp_(0, 1); return y", "aten.clamp_.default"),
]


@pytest.mark.parametrize(("body", "operator"), IN_PLACE)
def test_inputs_changed_in_place_are_refused_with_operator_and_line(load, body, operator):
    text = message(load(body))
    assert f"forward() changes its input x in place by {operator} (" in text
    assert f"/net.py:{LINE}: " in text, "the line of the model"
    assert text.endswith("work on a copy: x = x.clone().")


def test_parameters_changed_in_place_are_refused(load):
    text = message(load("self.inner.weight.add_(1); return y"))
    assert "changes the parameter inner.weight in place" in text
    assert "register_buffer" in text


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        ("x = x.clone(); x[:, 0] = 1; return self.inner(x)", "(torch.ones(2, 4),)"),
        ("y[:, 0] = 1; return y", "(torch.ones(2, 4),)"),
        ("self.state.add_(y); return self.state + 0", "(torch.ones(2, 4),)"),
        ("z = y.int().float(); z.sub_(1); return z", "(torch.ones(2, 4),)"),
        ("y = self.inner((x * 1).sub_(1)); return y", "(torch.ones(2, 4),)"),
    ],
)
def test_what_is_changed_in_place_may_be_anything_else(load, body, inputs):
    export(*(lambda model: (model, model.build()))(load(body, inputs=inputs)))


def test_a_cast_input_is_a_copy(load):
    """``float()`` may return a view; for an integer it does not."""
    model = load(
        "z = ids.float(); z.sub_(1); return y + z",
        parameters="self, x, ids",
        inputs="(torch.ones(2, 4), torch.ones(2, 4, dtype=torch.int32))",
    )
    export(model, model.build())


CONTROL_FLOW = [
    (
        "return torch.cond(x.sum() > 0, lambda v: self.inner(v), lambda v: v * 2, (x,))",
        "torch.cond (",
        "compute both branches and choose with torch.where",
    ),
    (
        "from torch._higher_order_ops import while_loop as loop; "
        "return loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * 2), (torch.tensor(0), x))",
        "torch.while_loop (",
        "a fixed number of rounds",
    ),
    (
        "from torch._higher_order_ops.scan import scan; "
        "return scan(lambda c, v: (c + v, c + 0), torch.zeros(4), x)",
        "torch.scan (",
        "torch.cumsum",
    ),
    (
        "from torch._higher_order_ops.map import map as each; return each(lambda v: v * 2, x)",
        "torch.map (",
        "torch.vmap",
    ),
]


@pytest.mark.parametrize(("body", "operator", "fix"), CONTROL_FLOW)
def test_control_flow_is_refused_with_what_to_write(load, body, operator, fix):
    text = message(load(body))
    assert operator in text
    assert f"/net.py:{LINE}: " in text
    assert "does not go into Core ML; " in text
    assert fix in text


@pytest.mark.parametrize(
    "body",
    [
        "z = torch.view_as_complex(x.reshape(2, 2, 2)) * 1j; return torch.view_as_real(z)",
        "return y + torch.polar(x, x).real",
        "return torch.fft.rfft(y).abs()",
        "return torch.view_as_real(torch.fft.rfft(y, 4, -1, 'ortho'))",
    ],
)
def test_complex_numbers_that_core_ml_cannot_hold_are_refused(load, body):
    text = message(load(body))
    assert "gives complex numbers" in text
    assert f"/net.py:{LINE}: " in text
    assert "two real tensors" in text


@pytest.mark.parametrize(
    "body",
    [
        "return torch.fft.rfft(y, 4, -1, 'ortho').abs()",
        "return torch.fft.irfft(torch.fft.rfft(y, 4, -1, 'ortho'), 4, -1, 'ortho')",
        "return torch.complex(y, x).abs()",
    ],
)
def test_complex_numbers_that_core_ml_computes_are_not_refused(load, body):
    model = load(body)
    export(model, model.build())


def test_names_that_only_contain_a_keyword_are_not_refused(load):
    model = load("return self.in_(y)", define="in_ = nn.ReLU().eval()")
    module = model.build()
    module.blocks = torch.nn.ModuleDict({"in": torch.nn.ReLU().eval()})  # nothing to read in it
    export(model, module)


@pytest.mark.parametrize("keyword", ["in", "class", "None", "lambda"])
@pytest.mark.parametrize("kind", ["module", "buffer"])
def test_names_that_are_keywords_are_refused(load, keyword, kind):
    """torch writes Python code with these names: ``self.blocks.in.weight`` is a syntax error."""
    model = load("return self.blocks(y)")
    module = model.build()
    module.blocks = torch.nn.Sequential()
    if kind == "module":
        module.blocks.add_module(keyword, torch.nn.Linear(4, 4).requires_grad_(False).eval())
    else:
        module.register_buffer(keyword, torch.ones(4))
    with pytest.raises(ModelError, match=rf"Python keyword '{keyword}'.*rename it"):
        export(model, module.eval())


def test_inputs_of_more_than_five_dimensions_are_refused(load):
    text = message(load("return y", inputs="(torch.ones(1, 1, 1, 1, 2, 4),)"))
    assert "the input x has 6 dimensions" in text
    assert "at most 5" in text


@pytest.mark.parametrize(
    ("parameters", "inputs", "problem"),
    [
        ("self, *, x", "(torch.ones(2, 4),)", "too many positional arguments"),
        ("self, x", "{'y': torch.ones(2, 4)}", "missing a required argument: 'x'"),
        ("self, x, mask", "(torch.ones(2, 4),)", "missing a required argument: 'mask'"),
        ("self, x", "(torch.ones(2, 4), torch.ones(1))", "too many positional arguments"),
    ],
)
def test_a_forward_that_does_not_take_the_sample_is_refused(load, parameters, inputs, problem):
    text = message(load("return y", parameters=parameters, inputs=inputs))
    assert "does not take a sample of example_inputs()" in text
    assert problem in text


BRANCHES = [
    "return y if x.sum() > 0 else x",
    "return y[: int(x.sum())]",
    "return [y for _ in range(int(x.sum()))]",
]


@pytest.mark.parametrize("body", BRANCHES)
def test_a_branch_on_values_is_one_line_with_its_source(load, body):
    text = message(load(body))
    assert f"net.py:{LINE}: torch.export cannot trace" in text
    assert f"`{body}`" in text
    assert "torch.where" in text


def test_a_model_that_fails_by_itself_is_not_the_fault_of_the_export(load):
    assert f"net.py:{LINE}: forward() raised ValueError: boo" in message(
        load("raise ValueError('boo')")
    )
    text = message(load("return self.inner(x[:, :3])"))
    assert f"net.py:{LINE}: forward() raised RuntimeError: mat1 and mat2 shapes" in text


@pytest.mark.parametrize("code", ["", "0", "'no weights'"])
def test_a_forward_that_ends_the_process_is_named(load, code):
    text = message(load(f"raise SystemExit({code})"))
    assert f"net.py:{LINE}: forward() ended the process by sys.exit(" in text


def test_errors_of_the_samples_are_theirs(load):
    text = message(load("return y", inputs="(x,)"))
    assert "example_inputs() raised NameError" in text
    assert "torch.export" not in text
    more = "def dynamic_shapes():\n    return [][1]"
    assert "dynamic_shapes() raised IndexError" in message(load("return y", more=more))


def test_what_only_torch_cannot_do_has_its_reason_and_the_line(load):
    text = message(load("return y * float(x.numpy().sum())"))
    assert f"net.py:{LINE}: torch.export could not trace the model: RuntimeError: .numpy()" in text


def test_a_dynamic_size_that_the_model_fixes_has_a_fix(load):
    more = "def dynamic_shapes():\n    return {'x': {0: torch.export.Dim('rows', min=2, max=9)}}"
    text = message(load("return y + self.state", more=more))
    assert "specialized it to be a constant (2)" in text
    assert "Leave this dimension out of dynamic_shapes()" in text
    assert "TORCH_LOGS" not in text


ANYWHERE = """
import torch
from torch import nn
from company.blocks import Block

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Block()
    def forward(self, x):
        return torch.relu(self.block(x))

def build():
    torch.manual_seed(0)
    return Net().eval()

def example_inputs():
    return (torch.ones(2, 4),)

def evaluation():
    return [example_inputs()], None
"""
BLOCK = """
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
    def forward(self, x):
        return self.linear(x).sin()
"""


def test_a_program_has_the_same_bytes_in_every_folder_and_names_its_sources(tmp_path, monkeypatch):
    """What follows from it is then not rebuilt in another clone, and other users' names are not in
    it."""
    written = set()
    for name, here in (("a", "."), ("another/one", "models")):
        root = tmp_path / name
        for file, text in (("models/net.py", ANYWHERE), ("company/blocks.py", BLOCK)):
            (root / file).parent.mkdir(parents=True)
            (root / file).write_text(text)
        monkeypatch.chdir(root / here)
        path = Path(os.path.relpath(root / "models/net.py"))
        model = ModelModule.load(path, None, {}, {}, Path(os.path.relpath(root)))
        programs.save(export(model, model.build()), root / "net.pt2")
        written.add((root / "net.pt2").read_bytes())
    (content,) = written
    assert not re.search(rb'File \\"/', content)
    for folder in (tmp_path, Path(torch.__file__).parent, Path.home()):
        assert f"{folder}/".encode() not in content
    lines = {source_line(node.meta) for node in programs.load(root / "net.pt2").graph.nodes}
    for line in (
        "models/net.py:11: return torch.relu(self.block(x))",
        "company/blocks.py:9: return self.linear(x).sin()",
    ):
        assert line in lines


def test_a_sample_can_hold_one_tensor_twice(load):
    """torch.export takes the two inputs for one, and ignores what the other is given."""
    model = load("return y - 2 * other", "self, x, other", "(torch.ones(2, 4),) * 2")
    program = export(model, model.build())
    x, other = torch.randn(2, 4), torch.randn(2, 4)
    expected = program.module()(x, torch.zeros(2, 4)) - 2 * other
    torch.testing.assert_close(program.module()(x, other), expected)
