"""Tests the selection of modules, and that torchao's options arrive unchanged."""

import io
import logging
import weakref

import pytest
import torch
from pte_foundry.errors import ConfigError, ModelError
from pte_foundry.lowering import edge_program
from pte_foundry.lowering.coreml import lower
from pte_foundry.models import programs
from pte_foundry.models.structure import modules_table
from pte_foundry.pte.execute import Pte
from pte_foundry.quantize import pt2e
from pte_foundry.quantize.coverage import Coverage, check_compressed, coverage
from pte_foundry.quantize.weight_only import quantize
from torch import nn
from torchao.prototype.quantization.codebook_coreml import CodebookQuantizedTensor
from torchao.quantization import IntxWeightOnlyConfig, quantize_
from torchao.quantization.granularity import PerGroup
from torchao.quantization.quant_primitives import MappingType

from tests.unit.lowering.test_lowering import TARGET

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
        ([INT8 | {"names": ["hed"]}], r"no step .*no module matches .*names \['hed'\]"),
        ([INT8, INT4 | {"types": ["torch.nn.Conv2d"]}], "step 2 quantizes no module: no module"),
        ([INT8, INT4], "step 2 quantizes no module: earlier steps already"),
        ([INT8 | {"types": ["torch.nn.LSTM"], "optional": True}], "no step quantizes a module"),
        (
            [INT4 | {"granularity": {"group_size": 24}}],
            "'layers.0', 'layers.1', 'head': 24 does not divide the 32 columns",
        ),
        ([LUT3 | {"block_size": [24, -1]}], "does not divide"),
        ([INT8 | {"types": ["torch.relu"]}], "no module matches types"),
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
    with pytest.raises(ModelError, match="'0': the weight is not 2-D"):
        quantize(conv, [step | {"types": ["torch.nn.Conv2d"]}])
    broken = Net()
    broken.head.weight.data[3, 3] = torch.nan
    with pytest.raises(ModelError, match="'head' holds"):
        quantize(broken, [step])


def test_attention_keeps_its_inner_projection():
    """It reads that linear's weight without calling it; upstream's filter spares it too."""
    attention = nn.MultiheadAttention(32, 4)
    with pytest.raises(ModelError, match="no module matches"):
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


def test_an_optional_step_may_match_nothing():
    steps = [INT8 | {"types": ["torch.nn.Conv2d"], "optional": True}, INT4]
    assert kinds(quantize(Net(), steps))["head"] == torch.int4


class Positions(nn.Embedding):
    """Indexes its weight, as Whisper's decoder."""

    def forward(self, tokens):
        return self.weight[torch.arange(tokens.shape[1]) + 1]


class ScaledEmbedding(nn.Embedding):
    """Overrides forward, but calls it, as BART and T5."""

    def forward(self, tokens):
        return super().forward(tokens) * 4


class Transposed(nn.Linear):
    def forward(self, x):
        return x @ self.weight.t()


class Functional(nn.Linear):
    """Calls the function itself, as adapters do."""

    def forward(self, x):
        return nn.functional.linear(x, self.weight, self.bias) + x


class Odd(nn.Module):
    """Subclasses of linears and embeddings, in every way of reading the weight."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.positions = ScaledEmbedding(64, 32), Positions(16, 32)
        self.called, self.transposed = Functional(32, 32), Transposed(32, 32)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(32, 32))
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(32, 32))
        self.borrowed = nn.Linear(32, 32)  # never called, but read by forward
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, tokens):
        x = self.words(tokens) + self.positions(tokens)
        x = self.spectral(self.normed(self.transposed(self.called(x))))
        x = self.attention(x, x, x)[0] + torch.matmul(x, self.borrowed.weight)
        return nn.functional.linear(x, self.words.weight)


LEFT_OUT = {
    "positions": "its weight is read by aten.index.Tensor",
    "transposed": "its weight is read by aten.t.default",
    "normed": "its weight is no parameter",
    "spectral": "its weight is no parameter",
    "borrowed": "its weight is read by aten.matmul.default",
}


@pytest.mark.parametrize("step", [INT8, INT4, LUT3], ids=["int8", "int4", "lut3"])
def test_modules_that_read_their_weight_themselves_are_left_out(step, caplog):
    """torchao's tensors have linear and embedding alone; the exported program shows who needs more.

    What is left can be exported, lowered and run.
    """
    tokens = (torch.arange(8)[None],)
    module = Odd().eval()
    table = modules_table(module, torch.export.export(module, tokens))
    obstacles = {row["name"]: row["obstacle"] for row in table if row["obstacle"]}
    assert obstacles.keys() == LEFT_OUT.keys()
    assert all(obstacles[name].startswith(start) for name, start in LEFT_OUT.items())
    expected = module(*tokens)
    with caplog.at_level(logging.WARNING):
        quantized = quantize(module, [step | {"types": [EMBEDDING, LINEAR]}], table)
    assert "leaves in floating point 'positions': its weight is read by aten.index" in caplog.text
    program = torch.export.export(quantized, tokens)
    assert 0.2 < coverage(program).share < 0.5
    (output,) = Pte.load(lower(edge_program.make(program, []), TARGET)).run(tokens)
    assert (output - expected).square().sum() < expected.square().sum() * 0.2


def test_weights_that_do_not_fit_stay_in_float(caplog):
    """The ten classes of a head do not stop a recipe with tables per 16 rows."""
    net = nn.Sequential(nn.Linear(24, 32), nn.Linear(32, 10), nn.Embedding(8, 1))
    expected = net[1].weight.clone()
    quantized = kinds(quantize(net, [LUT3, INT8 | {"types": [EMBEDDING], "optional": True}]))
    assert quantized == {"0": torch.uint3, "1": "float", "2": "float"}
    assert torch.equal(net[1].weight, expected)
    assert "step 1 leaves in floating point '1': 16 does not divide the 10 rows" in caplog.text
    assert "step 2 leaves in floating point '2': the weight has one column" in caplog.text


def test_a_recipe_that_compresses_no_weight_is_refused():
    """PT2E quantizes the product of two embeddings, and the file is as large as before."""

    class Recommender(nn.Module):
        def __init__(self):
            super().__init__()
            self.users, self.items = nn.Embedding(20, 8), nn.Embedding(30, 8)

        def forward(self, user, item):
            return (self.users(user) * self.items(item)).sum(-1)

    inputs = (torch.tensor([1]), torch.tensor([2]))
    program = torch.export.export(Recommender().eval(), inputs)
    settings = {"global_config": {"activation_observer": "min_max"}}
    ranges = pt2e.calibrate(program, settings, [inputs])
    found = coverage(pt2e.convert(program, settings, ranges, inputs))
    floats = {"items.weight": 240, "users.weight": 160}
    assert found.facts == {"compressed": 0.0, "values": 400, "floats": floats}
    with pytest.raises(ModelError, match=r"no weight .* items.weight, users.weight; leave it out"):
        check_compressed(found)
    check_compressed(Coverage(0, {"half": 1}))  # without weights, there is nothing to refuse


def test_coverage_counts_elements(tmp_path):
    """Scales, zero points and tables do not count; a shared weight counts once."""
    tokens = (torch.arange(8)[None],)
    for steps in ([INT8], [LUT3], [INT4]):
        program = torch.export.export(quantize(Net(), steps), tokens)
        found = coverage(program)
        assert found.quantized == 32 * 32 * 2 + 64 * 32
        assert found.floats == {"embed.weight": 64 * 32, "layers.0.bias": 32}
    steps = [INT8 | {"types": [EMBEDDING, LINEAR]}]
    program = torch.export.export(quantize(Net(tied=True), steps), tokens)
    programs.save(program, tmp_path / "a.pt2")  # where they are two
    for found in (coverage(program), coverage(programs.load(tmp_path / "a.pt2"))):
        assert found.quantized == 32 * 32 * 2 + 64 * 32


def test_states_are_no_weights():
    class Cached(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)
            for name in ("whole", "part", "read"):
                self.register_buffer(name, torch.zeros(2, 4))

        def forward(self, x):
            self.whole.copy_(self.linear(x))
            self.part[1:].copy_(x[1:])
            return self.whole + self.part + self.read

    found = coverage(torch.export.export(Cached(), (torch.ones(2, 4),)))
    assert found.floats == {"linear.weight": 16, "read": 8, "linear.bias": 4}


@pytest.mark.parametrize("dtype", ["int4", "int8"])
def test_a_tied_weight_can_be_quantized_after_conversion(dtype):
    """The linear's settings apply to the embedding too (executorch#21856)."""
    tokens = (torch.arange(8)[None],)
    module = Net(tied=True).eval()
    target = TARGET | {"op_linear_quantizer_config": {"dtype": dtype}}
    program = torch.export.export(module, tokens)
    (output,) = Pte.load(lower(edge_program.make(program, []), target)).run(tokens)
    expected = module(*tokens)
    assert (output - expected).square().sum() < expected.square().sum() * 0.1
