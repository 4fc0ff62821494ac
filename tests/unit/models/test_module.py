"""Tests the loader of model modules: arguments of a user's functions, and messages for errors.

Users see these messages first, so each contains the file, the function and the fix.
"""

import sys
from pathlib import Path

import pytest
import torch
from pte_foundry.errors import ModelError
from pte_foundry.models.module import ModelModule
from pte_foundry.models.structure import modules_table
from torch import nn

GOOD = """
import torch
from torch import nn

def build(weights, width=4):
    torch.manual_seed(0)
    return nn.Linear(width, 3).eval()

def example_inputs(width=4):
    return (torch.zeros(1, width),)

def calibration(width=4):
    for value in range(5):
        yield (torch.full((1, width), float(value)),)

def evaluation(data, width=4, samples=2):
    assert data["digits"].name == "digits.csv"
    return [(torch.ones(1, width),)] * samples, torch.ones(samples)

def score(outputs, labels, samples=2):
    return {"top1": len(outputs) / samples}
"""


@pytest.fixture
def load(tmp_path):
    """Loads a module from its text, GOOD with replacements, with usual weights, data, options."""

    def load(*replacements: tuple[str, str], append: str = "", **settings) -> ModelModule:
        text = GOOD
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "tiny.py"
        path.write_text(text + append)
        arguments = {
            "weights": Path("w.pth"),
            "data": {"digits": Path("digits.csv")},
            "options": {},
        }
        return ModelModule.load(path, **(arguments | settings))

    return load


def test_functions_receive_what_they_name(load):
    module = load(options={"width": 6, "samples": 3})
    assert module.build().in_features == 6
    samples, labels = module.evaluation()
    assert len(samples) == len(labels) == 3
    assert samples[0][0].shape == module.example_inputs()[0].shape == (1, 6)
    assert module.score([()] * 3, labels) == {"top1": 1.0}


def test_defaults_of_the_module_hold_without_options(load):
    assert load().example_inputs()[0].shape == (1, 4)


def test_double_star_receives_all_options_and_no_more(load):
    module = load(
        ("def build(weights, width=4):", "def build(**options):\n    width = len(options)"),
        options={"width": 4, "any": 1, "other": 2},
    )
    assert module.build().in_features == 3


def test_calibration_is_a_generator_of_which_the_limit_takes_the_first(load):
    assert [int(sample[0][0, 0]) for sample in load().calibration(limit=3)] == [0, 1, 2]
    assert len(load().calibration()) == 5
    assert len(load().calibration(limit=99)) == 5


def test_optional_functions_have_plain_answers(load):
    module = load(("def score", "def unused"))
    assert module.dynamic_shapes() is None
    assert module.score([(torch.ones(1, 3),)], [1]) == {}
    assert load().score([], None) == {}, "no labels, no score"
    assert module.agreement([(torch.ones(1, 3),)], [(torch.ones(1, 3),)]) == {}


def test_own_agreement(load):
    module = load(append="def agreement(outputs, reference):\n    return {'same': len(outputs)}\n")
    assert module.agreement([(), ()], [(), ()]) == {"same": 2.0}


def test_the_search_path_stays_as_it_was(load, tmp_path):
    before = list(sys.path)
    load()
    assert sys.path == before


def test_a_module_may_define_dataclasses(load):
    load(
        append="from dataclasses import dataclass\n@dataclass\nclass Shape:\n    width: 'int' = 4\n"
    )


def test_run_gives_a_tuple_of_finite_tensors(load):
    module = load()
    (output,) = module.run(module.build(), (torch.ones(1, 4),))
    assert output.shape == (1, 3)
    assert not output.requires_grad


def test_train_gives_a_state_dict(load):
    module = load(
        append="def train():\n    return {'w': torch.ones(3, 2).T, 'n': torch.tensor(1)}\n"
    )
    state = module.train()
    assert state["w"].is_contiguous()
    assert state["w"].shape == (2, 3)


def test_several_models_in_one_process_do_not_mix(load, tmp_path):
    first = load()
    second = load(("nn.Linear(width, 3)", "nn.Linear(width, 7)"))
    assert (first.build().out_features, second.build().out_features) == (3, 7)


BUILD = "return nn.Linear(width, 3).eval()"
CALIBRATION = "yield (torch.full((1, width), float(value)),)"
EVALUATION = "return [(torch.ones(1, width),)] * samples, torch.ones(samples)"
EXAMPLE = "return (torch.zeros(1, width),)"

WRONG_RETURNS = [
    ("build", BUILD, "return [1]", "returned a list of int; return a torch.nn.Module"),
    ("build", BUILD, "return nn.Linear(width, 3)", "training mode; end with `.eval()`"),
    ("build", BUILD, "return nn.Linear(width, 3).eval().half()", "float16; keep fp32"),
    ("build", BUILD, "return nn.Linear(width, 3).eval().double()", "float64; keep fp32"),
    (
        "build",
        BUILD,
        "m = nn.Linear(width, 3).eval(); m.weight.data[0, 0] = float('nan'); return m",
        "weight with nan",
    ),
    (
        "build",
        BUILD,
        "m = nn.Linear(width, 3).eval(); m.weight.data[0, 0] = float('inf'); return m",
        "weight with inf",
    ),
    (
        "build",
        BUILD,
        "m = nn.Sequential(nn.Linear(width, 3)); m.training = False; return m",
        "left 0 in training mode",
    ),
    ("example_inputs", EXAMPLE, "return torch.zeros(1, width)", "give a tuple of tensors"),
    ("example_inputs", EXAMPLE, "return ()", "a tuple of nothing; give a tuple of tensors"),
    ("example_inputs", EXAMPLE, "return (torch.zeros(1).half(),)", "float16; allowed: torch.float"),
    ("calibration", CALIBRATION, "yield torch.zeros(1, width)", "gave sample 0 as a Tensor"),
    ("calibration", CALIBRATION, "yield (torch.zeros(value + 1, width),)", "gave sample 1"),
    ("calibration", CALIBRATION, "yield (torch.zeros(1, width).int(),)", "int32 [1, 4]"),
    ("calibration", CALIBRATION, "yield (torch.zeros(1, width) / 0,)", "sample 0 with nan"),
    ("calibration", "range(5)", "range(0)", "gave no samples; at least one is needed"),
    ("evaluation", EVALUATION, "return [(torch.ones(1, width),)]", "return two things"),
    ("evaluation", EVALUATION, "return [], None", "gave no samples"),
    ("evaluation", EVALUATION, "return (torch.ones(1, width),), None", "gave its samples as"),
    (
        "evaluation",
        EVALUATION,
        "return [(torch.ones(1, width),)] * 2, torch.ones(1)",
        "2 samples and",
    ),
    ("evaluation", EVALUATION, "return [(torch.ones(1, width),)], [7]", "give a tensor, one row"),
    (
        "evaluation",
        EVALUATION,
        "return [(torch.ones(1, width),)], torch.tensor(7)",
        "give a tensor",
    ),
]


@pytest.mark.parametrize(("function", "old", "new", "message"), WRONG_RETURNS)
def test_wrong_returns_are_named(load, function, old, new, message):
    module = load((old, new))
    with pytest.raises(ModelError) as caught:
        getattr(module, function)()
    assert message in str(caught.value)
    assert f"tiny.py: {function}() " in str(caught.value)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ("{}", "a dict of nothing"),
        ("0.5", "a float; return a dict of numbers by name"),
        ("{'top1': torch.tensor(0.5)}", "'top1': a Tensor; return plain numbers"),
        ("{'top1': float('nan')}", "'top1': nan; return a finite number"),
    ],
)
def test_wrong_metrics_are_named(load, metrics, message):
    module = load(('{"top1": len(outputs) / samples}', metrics))
    with pytest.raises(ModelError, match=r"tiny\.py: score\(\) returned") as caught:
        module.score([], [])
    assert message in str(caught.value)


def test_there_may_be_nothing_to_agree_on(load):
    module = load(append="def agreement(outputs, reference):\n    return {}\n")
    assert module.agreement([], []) == {}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("{}", "gave no tensors"),
        ("{'w': 1}", "a dict of int"),
        ("{'w': torch.zeros(1) / 0}", "nan"),
    ],
)
def test_wrong_state_dicts_are_named(load, state, message):
    with pytest.raises(ModelError, match=message):
        load(append=f"def train():\n    return {state}\n").train()


def test_what_user_code_raises_comes_with_file_line_and_function(load):
    module = load((BUILD, "return undefined_name"))
    line = GOOD.splitlines().index(f"    {BUILD}") + 1
    with pytest.raises(ModelError, match=rf"tiny\.py:{line}: build\(\) raised NameError") as caught:
        module.build()
    assert isinstance(caught.value.__cause__, NameError), "its traceback stays"


def test_a_generator_that_raises_later_is_blamed_alike(load):
    module = load((CALIBRATION, CALIBRATION + "\n        [][value]"))
    with pytest.raises(ModelError, match=r"tiny\.py:\d+: calibration\(\) raised IndexError"):
        module.calibration()


MASKED = """
class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.tensor([0, 0, 0, float("-inf")]))
        self.eval()

    def forward(self, x):
        return x + self.mask
"""


def test_wrong_input_shape_names_the_forward(load):
    module = load()
    with pytest.raises(ModelError, match=r"tiny\.py: forward\(\) raised RuntimeError.*shapes"):
        module.run(module.build(), (torch.ones(1, 9),))


def test_infinities_of_masks_are_accepted(load):
    """As buffers, as inputs and as outputs; two of them had been refused."""
    module = load((BUILD, "return Masked()"), append=MASKED)
    mask = torch.tensor([[0.0, -torch.inf, 0.0, 0.0]])
    (output,) = module.run(module.build(), (mask,))
    assert output.isinf().sum() == 2


def test_nan_outputs_are_refused(load):
    module = load()
    with pytest.raises(ModelError, match=r"forward\(\) returned nan in output 0"):
        module.run(module.build(), (torch.full((1, 4), float("inf")),))


def test_other_outputs_than_tensors_are_refused(load):
    class Odd(nn.Module):
        def forward(self, x):
            return {"logits": x, "loss": [1.5]}

    with pytest.raises(ModelError, match=r"returned a float as loss\.0; .*leave it out"):
        load().run(Odd().eval(), (torch.ones(1),))


@pytest.mark.parametrize(
    "line", ["sys.exit(2)", "argparse.ArgumentParser().parse_args(['--epochs'])"]
)
@pytest.mark.parametrize("where", ["import", "build"])
def test_a_module_that_ends_the_process_is_an_error_with_its_line(load, line, where):
    """Its log was empty, and with exit code 0 the step counted as done."""
    changed = {
        "import": {"append": f"import sys, argparse\n{line}\n"},
        "build": {"append": f"import sys, argparse\ndef build(weights):\n    {line}\n"},
    }
    with pytest.raises(ModelError, match=rf"tiny\.py:\d+: {where}\(\) ended the process") as caught:
        load(**changed[where]).build()
    assert isinstance(caught.value.__cause__, SystemExit)


def test_ctrl_c_stays_ctrl_c(load):
    with pytest.raises(KeyboardInterrupt):
        load((BUILD, "raise KeyboardInterrupt")).build()


def test_an_exception_without_a_message_is_named(load):
    said = r"build\(\) raised AssertionError: without a message: `assert weights is None`"
    with pytest.raises(ModelError, match=said):
        load((BUILD, "assert weights is None")).build()


def test_a_missing_package_says_how_to_get_it(load, tmp_path):
    said = r"no_such_package to a file extra\.in, and run `make environment EXTRA="
    with pytest.raises(ModelError, match=said):
        load(append="import no_such_package.layers\n")
    for line in ("from .layers_beside import norm", "from . import layers_beside"):
        with pytest.raises(
            ModelError, match=r"tiny\.py:\d+: .* no relative imports; .*by its name"
        ):
            load(append=f"{line}\n")


def test_complex_weights_are_refused(load):
    rotary = (
        "m = nn.Linear(width, 3).eval(); m.register_buffer('cis', torch.ones(2) * 1j); return m"
    )
    with pytest.raises(ModelError, match=r"gave cis as torch\.complex64.*two fp32 tensors"):
        load((BUILD, rotary)).build()


@pytest.mark.parametrize("function", ["build", "example_inputs"])
def test_missing_functions_are_named(load, function):
    with pytest.raises(ModelError, match=rf"the module lacks {function}\(\); define it"):
        load((f"def {function}(", f"def _{function}("))


def test_a_missing_train_is_named_when_needed(load):
    with pytest.raises(ModelError, match=r"train\(\) is missing"):
        load().train()


def test_an_option_without_a_function_is_an_error(load):
    with pytest.raises(ModelError, match=r"the option 'widht'.*Options of this model: .*width"):
        load(options={"widht": 6})


def test_reserved_names_are_no_options(load):
    with pytest.raises(ModelError, match="'labels' is a reserved name"):
        load(options={"labels": 6})


def test_missing_option_weights_and_data_say_where_to_add_them(load):
    with pytest.raises(ModelError, match=r"build\(\) takes 'weights'.*under `weights`"):
        load(weights=None).build()
    with pytest.raises(ModelError, match=r"build\(\) takes 'depth'.*under its `options`"):
        load(("def build(weights", "def build(depth")).build()
    with pytest.raises(ModelError, match=r"evaluation\(\) reads the data file 'digits'.*`data`"):
        load(data={"dogs": Path("d")}).evaluation()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def build(:\n", r"broken\.py:1: import\(\) raised SyntaxError"),
        ("\nimport no_such_package\n", r"broken\.py:2: import\(\) raised ModuleNotFoundError"),
        ("", r"lacks build, example_inputs\(\)"),
    ],
)
def test_files_that_do_not_load_are_named(tmp_path, text, message):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ModelError, match=message):
        ModelModule.load(path, None, {}, {})


def test_missing_files_are_named(tmp_path):
    for path in (tmp_path / "none.py", tmp_path):
        with pytest.raises(ModelError, match="there is no such Python file"):
            ModelModule.load(path, None, {}, {})


def test_dynamic_shapes_free_the_sizes_but_not_the_ranks(load):
    dynamic = "def dynamic_shapes():\n    return ({0: torch.export.Dim('n')},)\n"
    larger = (CALIBRATION, "yield (torch.zeros(value + 1, width),)")
    assert len(load(larger, append=dynamic).calibration()) == 5
    with pytest.raises(ModelError, match=r"give all samples its dtypes"):
        load((CALIBRATION, "yield (torch.zeros(width),)"), append=dynamic).calibration()


class _Scaled(nn.Linear):
    pass


def test_modules_table_names_types_as_users_write_them():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sequential(_Scaled(8, 4), nn.ReLU()))
    rows = {row["name"]: row for row in modules_table(model)}
    assert rows["0"]["type"] == "torch.nn.modules.conv.Conv2d"
    assert rows["0"]["weight"] == [8, 3, 1, 1]
    assert {"torch.nn.Linear", "torch.nn.modules.linear.Linear"} < set(rows["1.0"]["types"])
    assert rows["1.0"]["types"][-1] != "torch.nn.modules.module.Module"
    assert rows["1.0"]["type"].endswith("._Scaled")
    assert rows["1.1"]["weight"] is None
    assert "torch.nn.Module" not in {name for row in rows.values() for name in row["types"]}


ENCODER = """
def build(weights):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    return nn.TransformerEncoder(layer, 1).eval().requires_grad_(False)

def example_inputs():
    return (torch.ones(2, 3, 4), torch.tensor([[False, True, True], [False, False, True]]))
"""


def test_the_reference_of_a_padded_transformer_is_what_torch_exports(load):
    """In eval mode torch's encoder gives zeros for padding, unless it is exported."""
    model = load(append=ENCODER.replace("(weights)", "()"))
    module = model.build()
    encode = type(
        "Encode", (nn.Module,), {"forward": lambda self, x, pad: self.inner(x, None, pad)}
    )
    wrapped = encode()
    wrapped.inner = module
    program = torch.export.export(wrapped, model.example_inputs(), strict=False)
    sample = model.example_inputs()
    torch.testing.assert_close(program.module()(*sample), model.run(wrapped, sample)[0])
    assert model.run(wrapped, sample)[0][0, 2].abs().sum() > 0
