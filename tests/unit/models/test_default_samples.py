"""Protects the samples and weights of a model that has none: seeded and plausible."""

import pytest
import torch
from pte_foundry.errors import DamagedError, ModelError
from pte_foundry.models.default_samples import COUNTS, default_samples
from pte_foundry.models.module import ModelModule
from pte_foundry.models.tensors import load_tensors, save_tensors
from pte_foundry.models.train import train

EXAMPLES = {
    "floats": torch.linspace(2, 4, 2000),
    "zeros": torch.zeros(2000),
    "mask": torch.tensor([0.0, float("-inf")]).repeat(1000),
    "ids": torch.arange(3, 2003, dtype=torch.int32) % 50,
    "constant": torch.ones(2000, dtype=torch.int64),
    "flags": torch.tensor([True, False]).repeat(1000),
    "empty": torch.zeros(0, 4),
    "scalar": torch.tensor(1.5),
}


@pytest.mark.parametrize("function", list(COUNTS))
def test_samples_are_like_the_example_and_differ(function):
    example = tuple(EXAMPLES.values())
    samples = default_samples(example, function)
    assert len(samples) == COUNTS[function]
    for sample in samples:
        floats, zeros, mask, ids, constant, flags, empty, scalar = sample
        assert [(t.dtype, t.shape) for t in sample] == [(t.dtype, t.shape) for t in example]
        assert floats.mean() == pytest.approx(3, abs=0.1)
        assert floats.std() == pytest.approx(EXAMPLES["floats"].std().item(), rel=0.1)
        assert zeros.std() == pytest.approx(1, abs=0.1), "a constant example has no spread"
        assert torch.equal(mask.isinf(), EXAMPLES["mask"].isinf())
        assert (ids.min(), ids.max()) == (0, 49)
        assert (constant == 1).all()
        assert 0 < flags.float().mean() < 1
        assert not empty.numel()
        assert scalar.isfinite()
    assert not torch.equal(samples[0][0], samples[1][0])


def test_samples_are_the_same_every_time_and_other_ones_to_calibrate_with():
    example = (EXAMPLES["floats"], EXAMPLES["ids"])
    first, again = (default_samples(example, "calibration", 4) for _ in range(2))
    assert len(first) == 4
    for one, other in zip(first, again, strict=True):
        assert all(map(torch.equal, one, other))
    assert not torch.equal(first[0][0], default_samples(example, "evaluation")[0][0])


MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        self.b.weight = self.a.weight
    def forward(self, x):
        return self.b(self.a(x))

def build({parameters}):
    return Net().eval()

def example_inputs():
    return {{"x": torch.rand(1, 4)}}
"""


@pytest.fixture
def load(tmp_path):
    def load(weights=None, seed=7, parameters="weights=None"):
        path = tmp_path / "net.py"
        path.write_text(MODULE.format(parameters=parameters))
        return ModelModule.load(path, weights, {}, {}, seed=seed)

    return load


def test_a_module_needs_no_samples_and_no_weights(load, tmp_path):
    samples, labels = load().evaluation()
    assert labels is None
    assert [sample[0].shape for sample in samples] == [(1, 4)] * 8
    assert len(load().calibration(3)) == 3
    again, _ = load().evaluation()
    assert torch.equal(again[0][0], samples[0][0]), "though its example is drawn anew"


def test_random_weights_depend_on_the_seed_alone(load, tmp_path):
    before = torch.random.get_rng_state()
    file = tmp_path / "w.safetensors"
    train(load(), None, file)
    first = file.read_bytes()
    torch.rand(3)
    train(load(), None, file)
    assert file.read_bytes() == first
    train(load(seed=8), None, file)
    assert file.read_bytes() != first
    file.write_bytes(first)
    state = load(file, parameters="").build().state_dict()
    other = load(file, seed=8).build().state_dict()
    assert all(torch.equal(state[name], other[name]) for name in state), "the file decides"
    torch.random.set_rng_state(before)
    drawn = torch.rand(3)
    torch.random.set_rng_state(before)
    load().build()
    assert torch.equal(torch.rand(3), drawn), "the seed is the model's alone"


def test_tied_weights_are_in_the_file_once_and_stay_tied(load, tmp_path):
    """The tied head of a language model is a fifth of its weights."""
    file = tmp_path / "w.safetensors"
    train(load(), None, file)
    assert "a.weight" in load_tensors(file)
    assert "b.weight" not in load_tensors(file)
    model = load(file).build()
    assert model.b.weight is model.a.weight


@pytest.mark.parametrize("change", ["shape", "name", "more", "bytes"])
def test_a_file_that_is_of_another_model_or_damaged_is_told(load, tmp_path, change):
    file = tmp_path / "w.safetensors"
    train(load(), None, file)
    state = load_tensors(file)
    changed = {
        "shape": state | {"a.weight": torch.zeros(4, 5)},
        "name": {f"x{name}": tensor for name, tensor in state.items()},
        "more": state | {"more": torch.zeros(1)},
    }
    if change == "bytes":
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    else:
        save_tensors(changed[change], file)
    with pytest.raises(DamagedError, match=r"w\.safetensors"):
        load(file).build()


def test_a_build_that_needs_a_file_is_told(load):
    with pytest.raises(ModelError, match=r"build\(\) takes 'weights', .* write `weights=None`"):
        load(parameters="weights").initialize()
