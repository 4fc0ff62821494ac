"""Tests the selection of modules, and that torchao's options arrive unchanged."""

import io
import weakref

import pytest
import torch
from pte_foundry.errors import ConfigError, ModelError
from pte_foundry.quantize.weight_only import quantize
from torch import nn
from torchao.prototype.quantization.codebook_coreml import CodebookQuantizedTensor
from torchao.quantization import IntxWeightOnlyConfig, quantize_
from torchao.quantization.granularity import PerGroup
from torchao.quantization.quant_primitives import MappingType

EMBEDDING, LINEAR = "torch.nn.Embedding", "torch.nn.Linear"
ALL = {"types": [LINEAR], "names": ["*"], "exclude": []}
INT8 = ALL | {"scheme": "affine", "weight_dtype": "int8", "granularity": {"axis": 0}}
INT4 = ALL | {"scheme": "affine", "weight_dtype": "int4", "granularity": {"group_size": 32}}
LUT3 = ALL | {"scheme": "codebook", "dtype": "uint3", "block_size": [16, -1]}


class Net(nn.Module):
    def __init__(self, tied=False):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(64, 32)
        self.layers = nn.ModuleList([nn.Linear(32, 32), nn.Linear(32, 32, bias=False)])
        self.head = nn.Linear(32, 64, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, tokens):
        x = self.embed(tokens)
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.head(x)


def kinds(module):
    """Qualified name to what its weight is: float, or block size and dtype."""
    return {
        name: (
            "float"
            if type(child.weight) is nn.Parameter
            else getattr(child.weight, "target_dtype", getattr(child.weight, "code_dtype", None))
        )
        for name, child in module.named_modules()
        if hasattr(child, "weight")
    }


def test_equals_plain_torchao():
    """All options arrive: the same weights as from quantize_ itself."""
    options = {"mapping_type": "ASYMMETRIC", "scale_dtype": "float16"}
    ours = quantize(Net(), [INT4 | options])
    theirs = Net()
    config = IntxWeightOnlyConfig(
        weight_dtype=torch.int4,
        granularity=PerGroup(32),
        mapping_type=MappingType.ASYMMETRIC,
        scale_dtype=torch.float16,
    )
    quantize_(theirs, config)
    assert torch.equal(ours.head.weight.dequantize(), theirs.head.weight.dequantize())
    assert ours.head.weight.scale.dtype == theirs.head.weight.scale.dtype
    hqq = quantize(Net(), [INT4 | {"intx_choose_qparams_algorithm": "hqq_scale_only"}])
    plain = quantize(Net(), [INT4])
    assert not torch.equal(hqq.head.weight.dequantize(), plain.head.weight.dequantize())


def test_takes_what_the_config_hands_over():
    """Every field of a validated step, with its defaults written out."""
    from pte_foundry.config.recipes.quantize import Step

    affine = {"weight_dtype": "int4", "granularity": {"group_size": 32}}
    codebook = {"dtype": "uint3", "block_size": [16, -1]}
    for step, plain in (({"affine": affine}, INT4), ({"codebook": codebook}, LUT3)):
        ours = quantize(Net(), [Step(**step).slice()])
        expected = quantize(Net(), [plain | {"types": [EMBEDDING, LINEAR]}])
        assert kinds(ours) == kinds(expected)
        assert torch.equal(ours.head.weight.dequantize(), expected.head.weight.dequantize())


def test_the_model_is_changed_in_place_and_old_weights_are_released():
    model = Net(tied=True)
    old = [weakref.ref(child.weight) for child in (model.layers[0], model.head)]
    kept = model.layers[0].bias
    assert quantize(model, [LUT3 | {"types": [EMBEDDING, LINEAR]}]) is model
    assert [weight() for weight in old] == [None, None]
    assert "float" not in kinds(model).values()
    assert model.layers[0].bias is kept


def test_types_names_and_excludes_choose():
    steps = [INT8 | {"types": [EMBEDDING]}, INT4 | {"names": ["layers.*"], "exclude": ["*.1"]}]
    assert kinds(quantize(Net(), steps)) == {
        "embed": torch.int8,
        "layers.0": torch.int4,
        "layers.1": "float",
        "head": "float",
    }


def test_the_first_step_wins():
    chosen = kinds(quantize(Net(), [INT8 | {"names": ["head"]}, LUT3]))
    assert chosen["head"] == torch.int8
    assert chosen["layers.0"] == torch.uint3


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([INT8 | {"names": ["hed"]}], r"step 1 matches no module: .*names \['hed'\]"),
        ([INT8, INT4 | {"types": ["torch.nn.Conv2d"]}], "step 2 matches no module"),
        ([INT8, INT4], "step 2: earlier steps take all"),
        (
            [INT4 | {"granularity": {"group_size": 24}}],
            r"'layers.0' \[32, 32\]: 24 does not divide",
        ),
        ([LUT3 | {"block_size": [24, -1]}], "does not divide"),
        ([INT8 | {"types": ["torch.relu"]}], "step 1 matches no module: types"),
        ([LUT3 | {"block_size": [16, 16]}], "both rows and columns"),
    ],
)
def test_what_cannot_be_done_is_named(steps, message):
    with pytest.raises(ModelError, match=message):
        quantize(Net(), steps)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (INT8 | {"weight_dtype": "int5"}, "'int5': allowed are int4, int8"),
        (INT8 | {"granularity": {"axis": 1}}, "axis must be 0"),
        (INT8 | {"granularity": {"axis": 0, "group_size": 32}}, "either"),
        (INT8 | {"mapping_type": "odd"}, "ODD"),
        (INT8 | {"colour": "red"}, "colour"),
        (LUT3 | {"dtype": "int3"}, "uint1"),
        (LUT3 | {"solver": "best"}, "solver"),
        (INT8 | {"scale_dtype": "bfloat16"}, "'bfloat16': allowed are float16, float32"),
        (INT8 | {"scheme": "magic"}, "'magic': allowed"),
    ],
)
def test_wrong_options_are_named(step, message):
    with pytest.raises(ConfigError, match=message):
        quantize(Net(), [step])


@pytest.mark.parametrize("step", [INT8, LUT3])
def test_weights_that_core_ml_cannot_take_are_named(step):
    conv = nn.Sequential(nn.Conv2d(16, 16, 3))
    with pytest.raises(ModelError, match=r"'0' \[16, 16, 3, 3\]: the weight is not 2-D"):
        quantize(conv, [step | {"types": ["torch.nn.Conv2d"]}])
    broken = Net()
    broken.head.weight.data[3, 3] = torch.nan
    with pytest.raises(ModelError, match="'head' holds"):
        quantize(broken, [step])


def test_attention_keeps_its_inner_projection():
    """It reads that linear's weight without calling it; upstream's filter spares it too."""
    attention = nn.MultiheadAttention(32, 4)
    with pytest.raises(ModelError, match="matches no module"):
        quantize(attention, [INT8])


@pytest.mark.parametrize("step", [INT8, LUT3])
def test_a_shared_weight_is_quantized_once_and_shared(step):
    quantized = quantize(Net(tied=True), [step | {"types": [EMBEDDING, LINEAR]}])
    assert quantized.head.weight is quantized.embed.weight
    tokens = (torch.arange(8).reshape(1, 8),)
    program = torch.export.export(quantized, tokens)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    loaded = torch.export.load(io.BytesIO(buffer.getvalue()))
    assert torch.equal(loaded.module()(*tokens), quantized(*tokens))
    again = io.BytesIO()
    torch.export.save(loaded, again)
    assert buffer.getvalue() == again.getvalue()


def test_a_shared_weight_cannot_be_two_things():
    steps = [INT8 | {"types": [EMBEDDING]}, INT4]
    with pytest.raises(ModelError, match="'embed' and 'head' share one weight"):
        quantize(Net(tied=True), steps)
    chosen = kinds(quantize(Net(tied=True), [steps[0], INT4 | {"exclude": ["head"]}]))
    assert (chosen["embed"], chosen["head"]) == (torch.int8, "float")


@pytest.mark.parametrize("bits", range(1, 9))
def test_every_width_restores_what_its_table_says(bits):
    """5 and 7 bits travel in 6 and 8, which Core ML has, and use no more entries for that."""
    step = LUT3 | {"dtype": f"uint{bits}", "block_size": [-1, -1]}
    weight = quantize(Net(), [step]).head.weight
    assert isinstance(weight, CodebookQuantizedTensor)
    carrier = {5: 6, 7: 8}.get(bits, bits)
    assert weight.code_dtype == getattr(torch, f"uint{carrier}")
    assert weight.codebook.shape == (1, 1, 1 << carrier, 1)
    assert len(weight.dequantize().unique()) == 1 << bits
