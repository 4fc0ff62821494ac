"""Tests PT2E in stages: calibration separate from conversion, on programs from files."""

import io
import os
import subprocess
import sys

import pytest
import torch
from pte_foundry.config.recipes import Pt2eRecipe
from pte_foundry.errors import ConfigError, ModelError
from pte_foundry.quantize import pt2e
from pte_foundry.quantize.annotate import Settings
from pte_foundry.quantize.settings import resolve
from torch import nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

WEIGHT_ONLY = {"global_config": {"activation_dtype": "float32"}}


class Net(nn.Module):
    """A little of everything: folded norm, in-place activation, residual, pool, two linears."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU6(inplace=True)
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.first, self.second = nn.Linear(8, 6), nn.Linear(6, 4)

    def forward(self, x):
        x = self.features(x)
        x = torch.flatten(self.pool(x + x * 2), 1)
        return self.second(torch.relu(self.first(x)))


def exported(module, *inputs, **options):
    return torch.export.export(module.eval(), inputs, **options)


def saved(program):
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def reloaded(program):
    return torch.export.load(io.BytesIO(saved(program)))


@pytest.fixture(scope="module")
def program():
    return reloaded(exported(Net(), torch.randn(2, 3, 8, 8)))


@pytest.fixture(scope="module")
def samples():
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(2, 3, 8, 8, generator=generator),) for _ in range(4)]


def operators(program):
    return [str(n.target) for n in program.graph.nodes if n.op == "call_function"]


def annotated(prepared):
    return [(n.op, n.name, str(n.target), [str(a) for a in n.args]) for n in prepared.graph.nodes]


@pytest.mark.parametrize("strict", [False, True])
def test_a_file_loses_nothing(strict):
    """Names and types apply equally to a fresh program and to one from a file."""
    fresh = exported(Net(), torch.randn(2, 3, 8, 8), strict=strict)
    settings = {
        "global_config": {},
        "module_type_configs": {"torch.nn.Conv2d": None, "operator.add": None},
        "module_name_configs": {"second": WEIGHT_ONLY["global_config"]},
    }
    assert annotated(pt2e.prepare(fresh, settings)) == annotated(
        pt2e.prepare(reloaded(fresh), settings)
    )


def test_the_program_stays_as_it_is(program, samples):
    """Preparing folds norms into weights, which must be its own copies."""
    before = saved(program)
    pt2e.convert(program, {}, pt2e.calibrate(program, {}, samples), samples[0])
    assert saved(program) == before


def test_statistics_know_only_activation_settings(program, samples):
    """Editing how weights are quantized must not ask for a new calibration."""
    expected = pt2e.calibrate(program, {}, samples)
    assert expected.keys() >= {"x", "hardtanh_", "mul", "add", "linear_1"}
    weights = {"weight_dtype": "quint8", "weight_per_channel": False, "weight_observer": "min_max"}
    assert pt2e.calibrate(program, {"global_config": weights}, samples) == expected
    recipe = Pt2eRecipe(scheme="pt2e", global_config=weights)
    assert pt2e.calibrate(program, recipe.calibration()["activations"], samples) == expected
    converted = pt2e.convert(program, {"global_config": weights}, expected, samples[0])
    assert not any("per_channel" in name for name in operators(converted))


def test_statistics_are_ranges_of_the_float_model(program, samples):
    """No fake quantization before or while observing, and every bit survives the file."""
    settings = {"global_config": {"activation_observer": "min_max"}}
    statistics = pt2e.calibrate(program, settings, samples)
    with torch.no_grad():
        outputs = torch.stack([program.module()(*sample) for sample in samples])
    inputs = torch.stack([sample[0] for sample in samples])
    ranges = {k: [float.fromhex(v[end]) for end in ("min", "max")] for k, v in statistics.items()}
    assert ranges["x"] == [inputs.min().item(), inputs.max().item()]
    # Folding the norm into the convolution rounds differently.
    assert ranges["linear_1"] == pytest.approx(
        [outputs.min().item(), outputs.max().item()], rel=1e-5
    )


def test_order_of_samples_counts(program, samples):
    """The moving average is no set of samples: a cache must know their order."""
    assert pt2e.calibrate(program, {}, samples) != pt2e.calibrate(program, {}, samples[::-1])


def test_float_weights_mean_not_quantized_at_all(program, samples):
    """Upstream's reading of weight_dtype float32, also in the slice for calibration."""
    recipe = Pt2eRecipe(
        scheme="pt2e",
        global_config=None,
        module_type_configs={"torch.nn.Linear": {"weight_dtype": "float32"}},
    )
    assert pt2e.calibrate(program, recipe.calibration()["activations"], samples) == {}
    settings = {"global_config": {"weight_dtype": "float32"}}
    assert pt2e.calibrate(program, settings, samples) == {}
    with pytest.raises(ModelError, match="quantizes nothing"):
        pt2e.convert(program, settings, None, *samples[:1])


def test_weights_alone_need_no_samples(program, samples):
    assert pt2e.calibrate(program, WEIGHT_ONLY, []) == {}
    converted = pt2e.convert(program, WEIGHT_ONLY, None, samples[0])
    assert sum("dequantize_per_channel" in name for name in operators(converted)) == 3
    floats = [v for v in converted.state_dict.values() if v.dtype == torch.float32 and v.dim() > 1]
    assert floats == []  # no float weight is left


def test_equals_the_plain_flow_with_the_same_ranges(program, samples):
    """Converting in stages gives what torchao gives in one go, to the last bit."""
    settings = {"global_config": {"quantization_scheme": "affine"}}
    prepared = pt2e.prepare(program, settings)
    with torch.no_grad():
        for sample in samples:  # fake quantization is on: upstream's way
            prepared(*sample)
    observers = pt2e._observers(prepared)
    statistics = {name: pt2e._range(name, observer) for name, observer in observers.items()}
    theirs = torch.export.export(convert_pt2e(prepared), samples[0])
    ours = pt2e.convert(program, settings, statistics, samples[0])
    assert torch.equal(ours.module()(*samples[0]), theirs.module()(*samples[0]))
    calls = [
        [(n.target, [a for a in n.args if not isinstance(a, torch.fx.Node)]) for n in p.graph.nodes
         if n.op == "call_function"]
        for p in (ours, theirs)
    ]  # fmt: skip
    assert calls[0] == calls[1]
    for name, value in ours.state_dict.items():
        assert torch.equal(value, theirs.state_dict[name])


@pytest.mark.parametrize("settings", [{}, WEIGHT_ONLY])
def test_converting_twice_gives_the_same_bytes(program, samples, settings):
    """Upstream leaves memory addresses in the metadata."""
    statistics = pt2e.calibrate(program, settings, samples)
    first = pt2e.convert(program, settings, statistics, samples[0])
    second = pt2e.convert(reloaded(program), settings, statistics, samples[0])
    assert saved(first) == saved(second) == saved(reloaded(first))


class Own(nn.Linear):
    """As timm's Linear: a class of its own that is a linear."""


def test_settings_by_type_are_those_of_subclasses_too():
    """In a program on disk, classes are names."""
    net = exported(nn.Sequential(Own(4, 4), nn.Linear(4, 4)), torch.ones(1, 4))
    for program in (net, reloaded(net)):
        settings = Settings({"module_type_configs": {"torch.nn.Linear": None}})
        linears = [n for n in program.graph.nodes if "linear" in str(n.target)]
        assert [settings.owner(node) for node in linears] == [("type", "torch.nn.Linear")] * 2
        for order in (1, -1):  # the class itself is more specific than its base
            names = ["torch.nn.Linear", f"{__name__}.Own"][::order]
            both = Settings({"module_type_configs": dict.fromkeys(names)})
            assert [both.owner(n)[1] for n in linears] == [f"{__name__}.Own", "torch.nn.Linear"]


def test_dynamic_shapes_pass_through():
    batch = {"x": {0: torch.export.Dim("batch", min=1, max=16)}}
    program = exported(Net(), torch.randn(2, 3, 8, 8), dynamic_shapes=batch)
    statistics = pt2e.calibrate(program, {}, [(torch.randn(n, 3, 8, 8),) for n in (1, 5)])
    converted = pt2e.convert(program, {}, statistics, (torch.randn(2, 3, 8, 8),), batch)
    assert converted.module()(torch.randn(7, 3, 8, 8)).shape == (7, 4)


def test_names_win_over_types_over_the_rest(program, samples):
    """And the order in which they are written does not count."""
    types = {"torch.nn.Linear": None, "torch.nn.Sequential": WEIGHT_ONLY["global_config"]}
    settings = {
        "global_config": None,
        "module_type_configs": types,
        "module_name_configs": {"first": WEIGHT_ONLY["global_config"], "features.1": None},
    }
    backwards = {
        key: dict(reversed(value.items())) if value else value for key, value in settings.items()
    }
    converted = [
        pt2e.convert(program, chosen, None, samples[0]) for chosen in (settings, backwards)
    ]
    assert saved(converted[0]) == saved(converted[1])
    quantized = sum("dequantize_per_channel" in name for name in operators(converted[0]))
    assert quantized == 2  # the convolution by its container's type, the first linear by its name


@pytest.mark.parametrize("strict", [False, True])
def test_functions_choose_operators(strict):
    """Only where the model calls them itself: a module's inside belongs to the module."""

    class Calls(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.ReLU()

        def forward(self, x):
            return nn.functional.relu(self.inner(x + 1) * 2)

    kinds = ["operator.mul", "torch.nn.functional.relu", "torch.nn.ReLU"]
    settings = Settings({"module_type_configs": {kind: {} for kind in kinds}})
    graph = reloaded(exported(Calls(), torch.randn(3), strict=strict)).graph
    owners = {n.name: settings.owner(n)[1] for n in graph.nodes if n.op == "call_function"}
    assert owners == {"add": "", "relu": kinds[2], "mul": kinds[0], "relu_1": kinds[1]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"module_name_configs": {"frist": None}}, "module_name_configs.frist"),
        ({"module_type_configs": {"torch.nn.Conv3d": None}}, "module_type_configs.torch.nn.Conv3d"),
    ],
)
def test_a_filter_that_matches_nothing_is_an_error(program, settings, message):
    with pytest.raises(ModelError, match=message):
        pt2e.prepare(program, {"global_config": {}, **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"global_config": {"activation_dtype": "qint8"}}, "global_config"),
        ({"module_type_configs": {"torch.nn.Lineer": {}}}, "torch.nn.Lineer"),
        ({"module_type_configs": {"torch": {}}}, "'torch'"),
        (
            {
                "global_config": {"quantization_scheme": "affine"},
                "module_name_configs": {"first": {}},
            },
            "quantization_scheme",
        ),
        (
            {"module_type_configs": {"torch.nn.Linear": {}, "torch.nn.modules.Linear": None}},
            "same type",
        ),
    ],
)
def test_wrong_settings_are_named(program, settings, message):
    with pytest.raises(ConfigError, match=message):
        pt2e.prepare(program, settings)


def test_resolve_finds_classes_and_functions():
    assert resolve("torch.nn.Linear") is nn.Linear
    assert resolve("torch.nn.functional.relu") is nn.functional.relu
    assert resolve("operator.add") is __import__("operator").add


def test_foreign_statistics_are_refused(program, samples):
    statistics = pt2e.calibrate(program, {}, samples)
    lacking = {name: values for name, values in statistics.items() if name != "x"}
    with pytest.raises(ModelError, match=r"without statistics \['x'\]"):
        pt2e.convert(program, {}, lacking, samples[0])
    with pytest.raises(ModelError, match="calibrate again"):
        pt2e.convert(program, WEIGHT_ONLY, statistics, samples[0])
    with pytest.raises(ModelError, match="calibrate again"):
        pt2e.convert(program, {}, None, samples[0])


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "at least 1"),
        ([(torch.randn(2, 3, 8, 8),), (torch.randn(2, 3, 9, 8),)], "sample 2"),
        ([(torch.full((2, 3, 8, 8), torch.nan),)], "'x' ranges from nan"),
        ([(torch.full((2, 3, 8, 8), torch.inf),)], "finite"),
    ],
)
def test_bad_samples_are_named(program, samples, message):
    with pytest.raises(ModelError, match=message):
        pt2e.calibrate(program, {}, samples)


class Tied(nn.Module):
    """A weight that is added to the input too; and one that is computed from the input."""

    def __init__(self, computed):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.computed = computed

    def forward(self, x):
        weight = x + 1 if self.computed else self.weight
        return nn.functional.linear(x, weight) + self.weight


def test_a_weight_may_be_an_activation_but_not_depend_on_inputs():
    """A constant needs no samples; a computed weight would need them and its settings at once."""
    inputs = (torch.randn(4, 4),)
    with pytest.raises(ModelError, match="'add' is used as a weight"):
        pt2e.calibrate(exported(Tied(True), *inputs), {}, [inputs])
    shared = {"global_config": {"weight_dtype": "quint8", "weight_per_channel": False}}
    program = exported(Tied(False), *inputs)
    for settings in ({}, shared):
        statistics = pt2e.calibrate(program, settings, [inputs])
        assert statistics.keys() == {"x", "linear", "add"}
        converted = pt2e.convert(program, settings, statistics, inputs).module()(*inputs)
        assert (converted - program.module()(*inputs)).abs().max() < 0.2


def test_weights_that_are_not_finite_are_named():
    module = Tied(False)
    module.weight.data[0, 0] = torch.nan
    with pytest.raises(ModelError, match="'weight' holds"):
        pt2e.convert(exported(module, torch.randn(4, 4)), WEIGHT_ONLY, {}, (torch.randn(4, 4),))


def test_one_value_with_two_observers_has_two_names(samples):
    """A rectified value and the operator behind it want different ranges of the same thing."""

    class Twice(nn.Module):
        def forward(self, x):
            return torch.relu(x + 1) + 1

    program = exported(Twice(), samples[0][0])
    statistics = pt2e.calibrate(program, {}, samples)
    assert len(statistics) == 4
    assert pt2e.convert(program, {}, statistics, samples[0]) is not None


DIGEST_OF_WEIGHTS = """
import hashlib, numpy, torch
from torch import nn
from pte_foundry.quantize import pt2e
layers = [nn.Conv2d(3, 37, 3, bias=False), nn.BatchNorm2d(37), nn.Flatten(), nn.Linear(1332, 53)]
net = nn.Sequential(*layers).eval()
rng = numpy.random.default_rng(0)  # torch's own random numbers depend on the processor
for value in net.state_dict().values():
    value.copy_(torch.from_numpy(rng.uniform(0.1, 3, size=tuple(value.shape))))
inputs = (torch.zeros(1, 3, 8, 8),)
settings = {"global_config": {"activation_dtype": "float32"}}
converted = pt2e.convert(torch.export.export(net, inputs), settings, None, inputs)
digest = hashlib.sha256()
for name, value in sorted((converted.state_dict | converted.constants).items()):
    digest.update(name.encode() + value.detach().contiguous().numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_quantized_weights_are_the_same_on_every_processor():
    """Folding norms, ranges and rounding must not depend on threads or instruction sets."""
    settings = [
        {"OMP_NUM_THREADS": "1"},
        {"OMP_NUM_THREADS": "2"},
        {"ATEN_CPU_CAPABILITY": "avx2"},
        {"ATEN_CPU_CAPABILITY": "default", "DNNL_MAX_CPU_ISA": "SSE41"},
    ]
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST_OF_WEIGHTS],
            env=os.environ | extra,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for extra in settings
    }
    assert len(digests) == 1
