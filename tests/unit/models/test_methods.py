"""Protects models with several methods and conversations, up to their programs on disk."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pte_foundry.errors import ModelError, ProgramError
from pte_foundry.models import programs
from pte_foundry.models.export import export_all
from pte_foundry.models.inference import evaluate, played, reference
from pte_foundry.models.module import ModelModule
from pte_foundry.models.play import RECORDED_CALLS, RECORDED_SAMPLES, flattened, rebuilt
from pte_foundry.models.tensors import Samples
from pte_foundry.validate.methods import measured_methods

from tests.project import ROOT

DECODER, SPEECH = (
    ROOT / f"config/models/gallery/{name}.py" for name in ("cached_decoder", "encoder_decoder")
)


def load(path: Path) -> ModelModule:
    return ModelModule.load(path, None, {}, {}, seed=0)


def recorded(samples: Samples) -> list:
    return [call.outputs for call in samples.calls]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    """The model, its programs as read from disk, and the reference as read from disk."""
    folder = tmp_path_factory.mktemp("decoder")
    model = load(DECODER)
    programs.save_all(export_all(model, model.build()), folder / "a.pt2")
    reference(model).save(folder / "reference.safetensors")
    loaded = programs.load_all(folder / "a.pt2")
    return model, loaded, Samples.load(folder / "reference.safetensors"), folder / "a.pt2"


def test_programs_play_as_the_model_does(decoder):
    model, loaded, expected, _ = decoder
    assert list(loaded) == ["prefill", "decode"]
    found = evaluate(loaded, expected, model)
    torch.testing.assert_close(found.outputs, expected.outputs)
    torch.testing.assert_close(recorded(found), recorded(expected))


def test_the_first_calls_are_recorded_and_the_outputs_have_names(decoder):
    _, _, expected, _ = decoder
    called = [(call.sample, call.method) for call in expected.calls]
    assert called == [
        (sample, method)
        for sample in range(RECORDED_SAMPLES)
        for method in ["prefill"] + ["decode"] * RECORDED_CALLS
    ]
    assert expected.output_names == ["logits"]
    caches = ["keys", "values"]
    names = {"inputs": ["tokens", "mask", *caches], "outputs": ["logits", *caches]}
    assert expected.methods == {"prefill": names, "decode": names}


def test_a_method_that_only_a_later_sample_calls_is_recorded_too(net):
    """The report has its inputs and outputs, and failed without them."""
    model = net(methods("first", "second") + LATER)
    expected = reference(model)
    called = [(call.sample, call.method) for call in expected.calls]
    assert called == [(0, "first"), (1, "first"), (3, "second"), (3, "second")]
    found = {method["name"]: method for method in measured_methods(expected)}
    assert found["second"]["inputs"][0]["shape"] == [1, 4]
    assert (found["second"]["calls"], len(found["second"]["outputs"])) == (2, 1)


def test_methods_share_their_weights_on_disk_and_in_memory(decoder, tmp_path):
    model, loaded, _, path = decoder
    first, second = (program.state_dict for program in loaded.values())
    assert {n: t.data_ptr() for n, t in first.items()} == {
        n: t.data_ptr() for n, t in second.items()
    }
    programs.save_all({"prefill": loaded["prefill"]}, tmp_path / "one.pt2")
    weights = sum(tensor.nbytes for tensor in first.values())
    assert path.stat().st_size - (tmp_path / "one.pt2").stat().st_size < weights
    programs.save_all(export_all(model, model.build()), tmp_path / "again.pt2")
    assert (tmp_path / "again.pt2").read_bytes() == path.read_bytes(), "reproducible"
    with pytest.raises(ProgramError, match="several programs: prefill, decode"):
        programs.load(path)


def test_methods_of_the_model_and_names_of_their_outputs():
    model = load(SPEECH)
    module = model.build()
    found = export_all(model, module)
    used = {
        m: {n.target for n in p.graph.nodes if n.op == "call_function"} for m, p in found.items()
    }
    assert torch.ops.aten.conv1d.default in used["encode"] - used["decode"]
    samples = reference(model)
    assert samples.methods["decode"] == {"inputs": ["tokens", "audio"], "outputs": ["logits"]}
    assert samples.methods["encode"] == {"inputs": ["features"], "outputs": ["audio"]}
    assert [tuple(one.shape) for one in samples.inputs[0]] == [(1, 8, 20)], "a bare tensor"


HEAD = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.register_buffer("held", torch.zeros(1, 4))
        self.register_buffer("own", torch.zeros(1, 4))
    def forward(self, x):
        return self.inner(x)
    def first(self, x):
        self.held += x
        return self.inner(self.held)
    def second(self, x):
        return {second}
    def third(self, x):
        self.own.add_(x)
        return self.inner(self.own + x)

def build():
    torch.manual_seed(0)
    return Net().eval()
X = torch.ones(1, 4)
"""
ALONE = """
def evaluation(): return [[torch.full((1, 4), float(n))] for n in (1, 2, 3)], None
def play(run, sample):
    return torch.cat([run("first", sample[0])[0] for _ in range(3)])
"""


@pytest.fixture
def net(tmp_path):
    def net(text, second="self.inner(x)"):
        path = tmp_path / "net.py"
        path.write_text(HEAD.replace("{second}", second) + text)
        return load(path)

    return net


def methods(*names):
    return f"def methods(): return {{{', '.join(f'{name!r}: (X,)' for name in names)}}}\n"


def test_a_buffer_that_methods_share_is_refused_with_the_reason(net):
    model = net(methods("first", "second"), second="self.inner(x + self.held)")
    with pytest.raises(ModelError) as caught:
        export_all(model, model.build())
    text = str(caught.value)
    assert "first() writes to the buffer held, and second() uses the same" in text
    assert "each method has states of its own" in text
    assert "inputs that both methods take and outputs" in text


def test_a_buffer_of_one_method_alone_is_its_state(net):
    model = net(methods("first", "third", "forward"))
    assert list(export_all(model, model.build())) == ["first", "third", "forward"]


def test_states_last_for_a_conversation_and_no_longer(net):
    """Of a single method too; calls that are recorded follow one another as they did."""
    model = net(methods("first") + ALONE)
    expected = reference(model)
    module = model.build()
    held = torch.stack([torch.full((4,), float(n)) for n in (2, 4, 6)])
    torch.testing.assert_close(expected.outputs[1][0], module.inner(held).detach())
    found = evaluate(export_all(model, module), expected, model)
    torch.testing.assert_close(found.outputs, expected.outputs)
    torch.testing.assert_close(recorded(found), recorded(expected))


def test_without_play_every_method_gets_its_own_sample(net):
    """One of them is a submodule, whose parameter names its input."""
    model = net(methods("inner", "second", "forward"))
    samples = reference(model)
    assert samples.output_names == [f"{n}.output_0" for n in ("inner", "second", "forward")]
    assert samples.methods["inner"]["inputs"] == ["input"]
    assert len(samples.inputs) == len(samples.outputs) == 8
    found = evaluate(export_all(model, model.build()), samples, model)
    torch.testing.assert_close(found.outputs, samples.outputs)


def test_without_conversations_the_step_does_not_load_the_module(net, tmp_path):
    """Its libraries take seconds to import. The program has the method's name."""
    model = net(methods("inner"))
    samples = reference(model)
    samples.save(tmp_path / "reference.safetensors")
    programs.save_all(export_all(model, model.build()), tmp_path / "a.pt2")
    step = [sys.executable, "-P", "-m", "pte_foundry.steps.evaluate", "--slice", "{}"]
    step += ["--program", tmp_path / "a.pt2", "--reference", tmp_path / "reference.safetensors"]
    step += ["--model", "nowhere.json", "--module", "nowhere.py", "--output", tmp_path / "output"]
    subprocess.run(step, check=True)
    found = Samples.load(tmp_path / "output")
    torch.testing.assert_close(found.outputs, samples.outputs)


LATER = """
def evaluation(): return [[0], [0], [0], [3], [3]], None
def play(run, sample):
    for _ in range(sample[0]):
        run("second", X)
    return run("first", X)
"""
PLAY = """
def evaluation(): return [{'x': X, 'text': 'a', 'n': 2}], None
def play(run, sample):
    """
ONE, TWO = methods("first"), methods("first", "second")
REFUSED = [
    ("def methods(): return [X]", "methods.. returned a list of Tensor; return a dict of samples"),
    ("def methods(): return {}", "return a dict of samples by method"),
    (methods("a-b"), "names a method 'a-b'; use a name such as 'prefill'"),
    (methods("train"), "'train', which every torch.nn.Module has"),
    (methods("first", "First"), "differ only in case: First, first"),
    (ONE + "def example_inputs(): return (X,)", "both example_inputs.. and methods.."),
    (ONE + PLAY + "return run('x', X)", "play.. calls 'x', which is no method; methods: first"),
    (ONE + PLAY + "return run('first', X, X)", "call of first.. with the inputs 0, 1; it takes 0"),
    (
        ONE + PLAY + "return run('first', X.int())",
        "0 as torch.int32 .1, 4.; it takes torch.float32",
    ),
    (ONE + PLAY + "return run('first', X[:, :3])", "torch.float32 .1, 3.; it takes .* .1, 4."),
    (ONE + PLAY + "return run('first', x=X)", "a call of first.. with the inputs x; it takes 0"),
    (ONE + PLAY + "return sample['text']", "returned a str"),
    (TWO + PLAY + "return run('first', X)", "play.. never calls second"),
    (ONE + PLAY + "return sample.x", r"net.py:\d+: play.. raised AttributeError"),
    (ONE + "def play(run, sample): return run('first', X)", "define evaluation"),
    (ONE + "def evaluation(): return [{1: X}], None\ndef play(run, sample): return X", "no text"),
    (TWO + "def evaluation(): return [(X,)], None", "not like methods.., a dict of first, second"),
    (TWO + "def output_names(): return ['y']", "output_names.. returned a list"),
    (TWO + "def dynamic_shapes(): return {'x': None}", "'x', which is no method"),
]


def built(net, text):
    model = net(text)
    module = model.build()
    reference(model)
    export_all(model, module)


@pytest.mark.parametrize(("text", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_what_breaks_the_contract_is_refused_in_one_sentence(net, text, said):
    with pytest.raises(ModelError, match=said) as caught:
        built(net, text)
    assert str(caught.value).count("net.py:") == 1


def test_a_program_that_makes_play_fail_is_at_fault_itself(net):
    """As an artifact's outputs may be nan: a result of the build, with the line of the module."""
    model = net(methods("first") + PLAY + "return X[[int(run('first', X)[0].max()) * 0]]")
    expected = reference(model)
    nan = torch.full((1, 4), torch.nan)
    with pytest.raises(ProgramError, match=r"own code fail: .*net.py:\d+: play\(\) raised"):
        played(lambda method, inputs: (nan,), lambda: None, expected, model)
    with pytest.raises(ProgramError, match="returned 2 outputs, not 1"):
        played(lambda method, inputs: (nan, nan), lambda: None, expected, model)


def test_samples_keep_their_structure():
    sample = {
        "a": [torch.ones(2), (torch.zeros(1), None, 3)],
        "text": "x",
        "b": {"c": torch.ones(1)},
    }
    structure, tensors = flattened(sample)
    assert len(tensors) == 3
    again = rebuilt(structure, tensors)
    assert repr(again) == repr(sample)
    assert type(again["a"][1]) is tuple
