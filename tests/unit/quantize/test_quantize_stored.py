"""Protects the numbers of quantized files: they go into the program without another rounding."""

import numpy as np
import pytest
import torch
from gguf import GGUFReader, dequantize
from pte_foundry.errors import ModelError
from pte_foundry.lowering import edge_program
from pte_foundry.lowering.coreml import lower
from pte_foundry.models.stored_weights import StoredWeight, check_stored, from_gguf
from pte_foundry.pte.execute import Pte
from pte_foundry.quantize.weight_only import quantize
from torch import nn

from tests.gguf_files import write_gguf
from tests.unit.lowering.test_lowering import TARGET

ALL = {"types": ["torch.nn.Linear", "torch.nn.Embedding"], "names": ["*"], "exclude": []}
STORED = ALL | {"scheme": "stored"}
TYPES = ("Q4_0", "Q4_1", "Q8_0")


def file_of(tmp_path, weights):
    """A GGUF file of weights, by name: (values, type)."""
    made = {name: (values.numpy(), kind) for name, (values, kind) in weights.items()}
    file = write_gguf(tmp_path / "weights.gguf", "test", made)
    return {tensor.name: tensor for tensor in GGUFReader(file).tensors}


def plain(tensor):
    return torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())


@pytest.mark.parametrize("kind", TYPES)
def test_numbers_are_those_of_the_file(kind, tmp_path):
    """Also of groups that are constant or zero, whose scale is zero."""
    values = torch.randn(5, 96, generator=torch.manual_seed(0))
    values[1, :32], values[2, 32:64], values[3] = 0.25, 0, values[3] + 10
    tensor = file_of(tmp_path, {"w": (values, kind)})["w"]
    stored = from_gguf(tensor)
    assert (stored.bits, stored.codes.shape) == (int(kind[1]), (5, 96))
    torch.testing.assert_close(stored.dequantize(), plain(tensor), rtol=1e-5, atol=1e-6)


def test_other_formats_are_left_to_the_reader(tmp_path):
    """K-quants have scales of scales; a vector has no columns to share a scale."""
    tensors = file_of(tmp_path, {"half": (torch.randn(2, 64), "F16")})
    assert from_gguf(tensors["half"]) is None


class Net(nn.Module):
    def __init__(self, tensors):
        super().__init__()
        self.embed, self.first = nn.Embedding(64, 32), nn.Linear(32, 64)
        self.second, self.head = nn.Linear(64, 32, bias=False), nn.Linear(32, 64, bias=False)
        self.head.weight = self.embed.weight
        for name in ("embed", "first", "second"):
            getattr(self, name).weight.data = plain(tensors[name])

    def forward(self, ids):
        return self.head(self.second(torch.relu(self.first(self.embed(ids)))))


@pytest.fixture
def stored_net(tmp_path):
    torch.manual_seed(0)
    shapes = {"embed": (64, 32), "first": (64, 32), "second": (32, 64)}
    weights = {
        name: (torch.randn(shape), kind)
        for (name, shape), kind in zip(shapes.items(), TYPES, strict=True)
    }
    tensors = file_of(tmp_path, weights)
    stored = {name: from_gguf(tensor) for name, tensor in tensors.items()}
    return Net(tensors).eval(), stored | {"head": stored["embed"]}


def test_the_program_computes_what_the_file_says(stored_net):
    """The executed artifact, and a tied weight is one."""
    net, stored = stored_net
    ids = torch.arange(6, dtype=torch.int32)[None]
    expected = net(ids).detach()
    quantized = quantize(net, [STORED], stored=check_stored(stored, net))
    assert quantized.head.weight is quantized.embed.weight
    program = torch.export.export(quantized.requires_grad_(False), (ids,), strict=False)
    (got,) = Pte.load(lower(edge_program.make(program, []), TARGET)).run((ids,))
    noise = (got - expected).square().sum() / expected.square().sum()
    assert -10 * np.log10(float(noise)) > 55


def test_what_the_file_does_not_store_is_left_to_other_steps(stored_net):
    net, stored = stored_net
    del stored["second"]
    int8 = ALL | {"scheme": "affine", "weight_dtype": "int8", "granularity": {"axis": 0}}
    quantize(net, [STORED, int8], stored=stored)
    assert (net.first.weight.target_dtype, net.first.weight.scale.shape) == (torch.int4, (64, 1))
    assert (net.second.weight.target_dtype, net.second.weight.scale.shape) == (torch.int8, (32, 1))


def test_a_file_without_stored_weights_is_refused(stored_net):
    net, _ = stored_net
    with pytest.raises(ModelError, match="stores no weight"):
        quantize(net, [STORED], stored={})


WRONG = {
    "not a dict": (lambda s: [*s.items()], "return a dict"),
    "no weight": (lambda s: s | {"first": s["first"].codes}, "StoredWeight"),
    "no module": (lambda s: s | {"nowhere": s["first"]}, "no such module"),
    "order of rows": (lambda s: s | {"first": s["first"].rows(lambda r: r.flip(0))}, "row 0 diff"),
    "shape": (lambda s: s | {"first": s["second"]}, "shape"),
    "bits": (lambda s: s | {"first": s["first"]._replace(bits=3)}, "4 or 8 bits"),
    "codes": (lambda s: s | {"first": s["first"]._replace(codes=s["first"].codes * 3)}, "hold"),
    "scales": (lambda s: s | {"first": s["first"]._replace(scale=s["first"].scale[0])}, "scales"),
    "zero points": (
        lambda s: s | {"first": s["first"]._replace(zero_point=s["first"].scale[:, :0])},
        "zero points",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), WRONG.values(), ids=WRONG)
def test_what_is_no_weight_of_the_model_is_refused(spoil, message, stored_net):
    net, stored = stored_net
    with pytest.raises(ModelError, match=message):
        check_stored(spoil(stored), net)


def test_rows_keep_their_numbers(stored_net):
    _, stored = stored_net
    weight: StoredWeight = stored["first"]
    turned = weight.rows(lambda rows: rows.flip(0))
    assert torch.equal(turned.dequantize(), weight.dequantize().flip(0))
