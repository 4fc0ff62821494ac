"""Protects that the divergence report points at the layer to blame, in programs really lowered.

Faults are planted where users meet them: a scale that saturates, an overflow in fp16, a weight that
four bits cannot hold. Healthy programs show what is not to be found.
"""

import io

import pytest
import torch
from pte_foundry.lowering import edge_program
from pte_foundry.lowering.coreml import lower
from pte_foundry.pte import Pte
from pte_foundry.quantize import pt2e
from pte_foundry.quantize.weight_only import quantize
from pte_foundry.validate.divergence import diverge
from torch import nn

from tests.unit.lowering.test_lowering import TARGET

pytestmark = pytest.mark.slow


class Residual(nn.Module):
    """Convolutions with norms, an activation in place, a sum of two branches, two linears."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        )
        self.left, self.right = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.hidden, self.head = nn.Linear(8 * 16, 32), nn.Linear(32, 16)

    def forward(self, x):
        x = self.stem(x)
        x = torch.relu(self.left(x) + self.right(x)).flatten(1)
        return self.head(torch.relu(self.hidden(x)))


class Loud(nn.Module):
    """Fine in fp32; what ``loud`` gives is beyond fp16, and is scaled down right after it."""

    def __init__(self, factor):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.loud, self.head = nn.Linear(16, 32), nn.Linear(32, 32), nn.Linear(32, 8)
        self.factor = factor
        with torch.no_grad():
            self.loud.weight *= factor
            self.loud.bias *= factor

    def forward(self, x):
        x = torch.relu(self.loud(torch.relu(self.first(x)))) / self.factor
        return torch.softmax(self.head(x), -1)


class Averaging(nn.Module):
    """Keeps a running mean of what a linear layer computes, in fp16 as Core ML's states are."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.head = nn.Linear(16, 32), nn.Linear(32, 8)
        self.register_buffer("mean", torch.zeros(1, 32, dtype=torch.float16))

    def float_state(self):
        self.mean = self.mean.float()
        return self

    def forward(self, x):
        mean = 0.75 * self.mean + 0.25 * torch.relu(self.inner(x)).to(self.mean.dtype)
        self.mean.copy_(mean)
        return self.head(mean.float())


class TwoHeads(nn.Module):
    """A large output that is always right, and a small one."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.small = nn.Linear(16, 32), nn.Linear(32, 4)

    def forward(self, x):
        return x * 100, self.small(torch.relu(self.body(x)))


class Language(nn.Module):
    """Two layers of causal attention over tokens, with tied embedding and output."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(64, 32)
        layers = [nn.TransformerEncoderLayer(32, 4, 64, batch_first=True) for _ in range(2)]
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(32, 64, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        x = self.embed(ids)
        mask = torch.full((ids.shape[1],) * 2, -1e4).triu(1)
        for layer in self.layers:
            x = layer(x, src_mask=mask)
        return self.head(x)


def samples(*shape):
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(*shape, generator=generator),) for _ in range(4)]


IMAGES = samples(1, 3, 4, 4)


def exported(model, example):
    """As the ``export`` step leaves it: through a file, which drops the history of nodes."""
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(model.eval(), example), buffer)
    return torch.export.load(buffer)


@pytest.fixture(scope="module")
def residual():
    return exported(Residual(), IMAGES[0])


def lowered(program, target):
    edge = edge_program.make(program, [])
    return Pte.load(lower(edge, TARGET | target)), edge.debug_handles


def found(reference, program, target, inputs):
    pte, debug_handles = lowered(program, target)
    return diverge(pte, reference, debug_handles, inputs)


def quantized(program, **edited):
    """int8, with the calibrated ranges of some activations multiplied."""
    # Few samples: a moving average would not have reached their range.
    settings = {"global_config": {"activation_observer": "min_max"}}
    ranges = pt2e.calibrate(program, settings, IMAGES)
    for name, factor in edited.items():
        for end, value in ranges[name].items():
            ranges[name][end] = (float.fromhex(value) * factor).hex()
    return pt2e.convert(program, settings, ranges, IMAGES[0])


def test_in_fp32_no_layer_introduces_anything(residual):
    report = found(residual, residual, {"compute_precision": "float32"}, IMAGES)
    assert report["samples"] == 4
    assert report["uncovered"] == []
    assert min(layer["introduced_sqnr_db"] for layer in report["layers"]) > 120
    assert min(layer["accumulated_sqnr_db"] for layer in report["layers"]) > 110
    assert ["aten.conv2d.default @ stem.0", "aten.batch_norm.default @ stem.1"] in [
        layer["layer"] for layer in report["layers"]
    ]


def test_a_stateful_program_is_compared_and_its_state_kept():
    """The new value of the state is a layer's result as any other."""
    inputs = samples(1, 16)
    program = exported(Averaging(), inputs[0])
    pte, handles = lowered(program, {})
    operations = pte.delegates[0].program.operations(pte.delegates[0].function)
    assert "write_state" in [operation.op for operation in operations]
    report = diverge(pte, program, handles, inputs)
    assert min(layer["accumulated_sqnr_db"] for layer in report["layers"]) > 50
    covered = [name for layer in report["layers"] for name in layer["layer"]]
    assert {"aten.linear.default @ inner", "aten.linear.default @ head"} <= set(covered)


def test_healthy_int8_is_evenly_rough(residual):
    """Also where coremltools rescales both sides of a sum: values are in the model's own units."""
    report = found(residual, quantized(residual), {}, IMAGES)
    assert min(layer["introduced_sqnr_db"] for layer in report["layers"]) > 30
    assert report["uncovered"] == []
    for layer in report["layers"]:
        high = layer["reference"]["high"]
        assert layer["program"]["high"] == pytest.approx(high, rel=0.1, abs=0.02)


@pytest.mark.parametrize(
    ("activation", "layer"),
    [
        ("relu_", "aten.relu.default @ stem.2"),
        ("conv2d_2", "aten.conv2d.default @ right"),
    ],
)
def test_a_scale_that_saturates_is_found_at_its_layer(residual, activation, layer):
    report = found(residual, quantized(residual, **{activation: 0.05}), {}, IMAGES)
    worst, second = report["layers"][:2]
    assert worst["layer"][-1] == layer
    assert worst["introduced_sqnr_db"] < second["introduced_sqnr_db"] - 10
    assert worst["program"]["high"] < 0.2 * worst["reference"]["high"]


def test_an_overflow_in_fp16_is_found_at_its_layer():
    inputs = [(20 * sample,) for (sample,) in samples(1, 16)]
    program = exported(Loud(2.0**13), inputs[0])
    report = found(program, program, {}, inputs)
    worst, *others = report["layers"]
    assert worst["layer"] == ["aten.linear.default @ loud"]
    assert "fp16_overflow" in worst["hazards"]
    assert worst["introduced_sqnr_db"] is None
    assert worst["program"]["non_finite"] > 0
    assert worst["reference"]["high"] > 65504
    assert min(other["introduced_sqnr_db"] for other in others) > 50
    # What comes after it is broken as well, and not to blame.
    assert None in [other["accumulated_sqnr_db"] for other in others]


def test_the_weight_that_four_bits_cannot_hold_is_found():
    """One outlier in each row takes all the levels of a per-row scale."""
    model = Residual().eval()
    with torch.no_grad():
        model.hidden.weight[:, 0] = 5.0
    reference = exported(model, IMAGES[0])
    steps = [{"scheme": "affine", "weight_dtype": "int4", "granularity": {"axis": 0}}]
    steps[0] |= {"types": ["torch.nn.Linear"], "names": ["*"], "exclude": []}
    program = exported(quantize(model, steps), IMAGES[0])
    worst, second, third = found(reference, program, {}, IMAGES)["layers"][:3]
    assert worst["layer"] == ["aten.linear.default @ hidden"]
    assert second["layer"] == ["aten.linear.default @ head"]
    assert worst["introduced_sqnr_db"] < second["introduced_sqnr_db"] - 3
    assert third["introduced_sqnr_db"] > 50  # not quantized


def test_what_is_not_delegated_is_said_and_blamed_for_nothing(residual):
    options = TARGET["partitioner"] | {"skip_ops_for_coreml_delegation": ["aten.relu.default"]}
    report = found(residual, residual, {"partitioner": options}, IMAGES)
    covered = [name for layer in report["layers"] for name in layer["layer"]]
    assert covered.count("aten.linear.default @ head") == 1
    assert set(report["uncovered"]) <= {"aten.relu.default", "aten.relu.default #2"}
    assert min(layer["introduced_sqnr_db"] for layer in report["layers"]) > 50


def test_a_scale_that_saturates_a_state_is_found():
    inputs = samples(1, 16)
    program = exported(Averaging().float_state(), inputs[0])
    settings = {"global_config": {"activation_observer": "min_max"}}
    ranges = pt2e.calibrate(program, settings, inputs)
    for end, value in ranges["relu"].items():
        ranges["relu"][end] = (float.fromhex(value) * 0.05).hex()
    edited = pt2e.convert(program, settings, ranges, inputs[0])
    report = found(program, edited, {}, inputs)
    assert "aten.relu.default" in report["layers"][0]["layer"]
    assert report["layers"][0]["introduced_sqnr_db"] < report["layers"][1]["introduced_sqnr_db"] - 5


def test_the_ruined_one_of_several_outputs_is_found():
    inputs = samples(1, 16)
    model = TwoHeads().eval()
    reference = exported(model, inputs[0])
    steps = [{"scheme": "affine", "weight_dtype": "int4", "granularity": {"axis": 0}}]
    steps[0] |= {"types": ["torch.nn.Linear"], "names": ["small"], "exclude": []}
    report = found(reference, exported(quantize(model, steps), inputs[0]), {}, inputs)
    worst, second = report["layers"][:2]
    assert worst["layer"] == ["aten.linear.default @ small"]
    assert worst["introduced_sqnr_db"] < second["introduced_sqnr_db"] - 20


def test_a_wrong_weight_deep_in_a_language_model_is_found():
    generator = torch.Generator().manual_seed(1)
    inputs = [(torch.randint(0, 64, (1, 8), generator=generator),) for _ in range(2)]
    reference = exported(Language(), inputs[0])
    model = Language().eval()
    with torch.no_grad():
        model.layers[1].linear1.weight[5, 3] += 2
    report = found(reference, exported(model, inputs[0]), {}, inputs)
    worst, second = report["layers"][:2]
    assert worst["layer"][-1] == "aten.linear.default @ layers.1.linear1"
    assert worst["introduced_sqnr_db"] < second["introduced_sqnr_db"] - 10
    assert not any("layers.0" in name for name in report["uncovered"])
