"""Protects training by the rule ``train``: weights as models have them, tied or views of another.

safetensors refuses tensors that share memory.
"""

import hashlib

import pytest
import torch
from pte_foundry.models.module import ModelModule
from pte_foundry.models.tensors import load_tensors, save_tensors
from pte_foundry.models.train import train
from torch import nn

TIED = """
import torch
from safetensors.torch import load_file
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(32, 8), nn.Linear(8, 32, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(self.embed(tokens))

def train():
    torch.manual_seed(0)
    return Net().state_dict()

def build(weights):
    model = Net()
    model.load_state_dict(load_file(weights))
    return model.eval()

def example_inputs():
    return (torch.zeros(1, 4, dtype=torch.int32),)

def evaluation():
    return [example_inputs()], None
"""


def test_a_model_with_tied_weights_can_be_trained_and_built(tmp_path):
    """As every language model; the model's own code ties them again."""
    path, weights = tmp_path / "tied.py", tmp_path / "weights.safetensors"
    path.write_text(TIED)
    train(ModelModule.load(path, None, {}, {}), None, weights)
    assert load_tensors(weights).keys() == {"embed.weight", "head.weight"}
    model = ModelModule.load(path, weights, {}, {}).build()
    assert model.head.weight is model.embed.weight
    torch.manual_seed(0)
    assert torch.equal(model.embed.weight, nn.Embedding(32, 8).weight)
    # The values that are written do not depend on which of the two is first.
    again = tmp_path / "again.safetensors"
    train(ModelModule.load(path, None, {}, {}), None, again)
    digests = {hashlib.sha256(file.read_bytes()).hexdigest() for file in (weights, again)}
    assert len(digests) == 1


WHOLE = torch.arange(24.0).reshape(4, 6)
VIEWS = {
    "the same twice": {"a": WHOLE, "b": WHOLE},
    "halves of one storage": {"a": WHOLE[:2], "b": WHOLE[2:]},
    "a row of another": {"a": WHOLE, "b": WHOLE[1]},
    "only a part": {"a": WHOLE[1:3]},
    "transposed": {"a": WHOLE.T, "b": WHOLE},
    "strided": {"a": WHOLE[:, ::2], "b": WHOLE[::2]},
    "expanded": {"a": torch.ones(1, 3).expand(4, 3), "b": torch.tensor(1.0).expand(2)},
    "reinterpreted": {"a": WHOLE, "b": WHOLE.view(torch.int32)},
    "empty": {"a": torch.empty(0, 3), "b": torch.empty(0), "c": WHOLE},
    "parameters": {"a": nn.Parameter(WHOLE.clone()), "b": WHOLE},
}


@pytest.mark.parametrize("case", VIEWS)
def test_tensors_that_share_memory_are_written_by_value(case, tmp_path):
    save_tensors(VIEWS[case], tmp_path / "a.safetensors")
    found = load_tensors(tmp_path / "a.safetensors")
    assert found.keys() == VIEWS[case].keys()
    for name, tensor in VIEWS[case].items():
        assert torch.equal(found[name], tensor)


def test_plain_tensors_are_not_copied_and_their_file_stays_as_it_was(tmp_path):
    """The bytes of what was trained before must not change."""
    from safetensors.torch import save_file

    plain = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor([True, False])}
    save_tensors(plain, tmp_path / "a.safetensors")
    from pte_foundry.models import tensors

    assert tensors._separate(plain)["b"].data_ptr() == plain["b"].data_ptr()
    save_file(plain, tmp_path / "b.safetensors", {"checksum": tensors._checksum(plain)})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
