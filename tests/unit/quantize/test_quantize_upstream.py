"""Protects that ours prepares and converts the models in the box as upstream does, node by node.

Upstream runs as it comes but for its pattern exports: taken from ours, which another test proves
equal for all 405 (``test_executorch_quantizer_patterns``), they cost seconds and not a minute.
``make bench`` compares with nothing replaced. Where upstream goes wrong, a test says how, and that
ours does not.
"""

from functools import partial

import pytest
import torch
from executorch.backends.apple.coreml.quantizer import _coreml_quantizer_utils as upstream
from pte_foundry.bench import equality, networks, preparation
from pte_foundry.formats.canonical_pte import canonical_pte
from pte_foundry.lowering import edge_program
from pte_foundry.lowering.coreml import lower
from pte_foundry.models.programs import forget_history
from pte_foundry.quantize import pt2e
from pte_foundry.upstream.executorch_quantizer_patterns import Pattern
from torch import nn
from torch.fx.passes.utils.source_matcher_utils import get_source_partitions
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

from tests.unit.lowering.test_lowering import TARGET
from tests.unit.upstream.test_executorch_quantizer_patterns import Zoo

NETWORKS = {
    "digits_cnn": networks.digits_cnn,
    "minilm": partial(networks.minilm, layers=2, heads=3, width=24, tokens=8),
    "smollm2": partial(networks.smollm2, layers=2, heads=3, width=24, tokens=8, vocabulary=64),
}
STATIC = preparation.SETTINGS
AFFINE = {
    "global_config": {
        "quantization_scheme": "affine",
        "weight_dtype": "quint8",
        "weight_per_channel": False,
        "activation_observer": "min_max",
    }
}
WEIGHT_ONLY = {"global_config": {"activation_dtype": "float32"}}


@pytest.fixture
def upstreams(monkeypatch):
    """Upstream's prepared module of a program, with its pattern exports taken from ours."""

    def prepared(program, settings):
        with monkeypatch.context() as context:
            context.setattr(
                upstream,
                "_get_aten_graph_module",
                lambda module, inputs: Pattern(module, inputs).export(),
            )
            return preparation.upstreams(program, settings)

    return prepared


def exported(make, strict=False):
    network, inputs = networks.with_random_weights(make)
    return torch.export.export(network, inputs, strict=strict), inputs


def noted(prepared):
    """The annotations by name of their node, without observers, which annotations number."""
    return {
        name: note
        for _, name, _, note in equality.annotations(prepared)
        if not name.startswith("activation_post_process")
    }


def assert_same(program, settings, inputs, upstreams):
    made, expected = preparation.ours(program, settings), upstreams(program, settings)
    assert equality.annotations(made) == equality.annotations(expected)
    assert equality.observers(made) == equality.observers(expected)
    assert any(note and note[0] for note in noted(made).values())
    ours, theirs = (preparation.converted(module, inputs) for module in (made, expected))
    assert equality.calls(ours) == equality.calls(theirs)
    assert equality.constants(ours) == equality.constants(theirs)
    assert any("quantize" in target for _, target, _ in equality.calls(ours))


@pytest.mark.parametrize("settings", [STATIC, AFFINE, WEIGHT_ONLY], ids=["static", "affine", "w"])
@pytest.mark.parametrize("model", NETWORKS)
def test_models_are_prepared_and_converted_as_by_upstream(model, settings, upstreams):
    """Same annotation, observers, graph, and bits of every constant after the same samples.

    If the operators that ours leaves in float are quantized too; the next test names them.
    """
    program, inputs = exported(NETWORKS[model])
    assert_same(program, settings, inputs, upstreams)


# One sum of scores and mask a layer; in MiniLM also what computes the mask from integers.
SPARED = {"digits_cnn": set(), "minilm": {"mul", "add_1", "add_4"}, "smollm2": {"add_3", "add_10"}}


@pytest.mark.parametrize("model", NETWORKS)
def test_masks_and_positions_alone_are_spared(model):
    """Every other operator is annotated as upstream does."""
    program, _ = exported(NETWORKS[model])
    every, ours = (noted(prepare(program, STATIC)) for prepare in (preparation.ours, pt2e.prepare))
    different = {name for name, note in every.items() if note and not ours[name]}
    assert different == SPARED[model]


def test_a_difference_is_noticed():
    """Otherwise the comparisons here, and those of the benchmark, would say nothing."""
    program, inputs = exported(NETWORKS["minilm"])
    static, affine = (pt2e.prepare(program, settings) for settings in (STATIC, AFFINE))
    assert not any(preparation.same(static, affine, inputs).values())
    with torch.random.fork_rng():
        network, _ = NETWORKS["minilm"]()
    other = torch.export.export(network, inputs)
    one, another = (pt2e.prepare(each, STATIC) for each in (program, other))
    facts = preparation.same(one, another, inputs)
    assert facts == {"same_annotations": True, "same_program": False}


@pytest.mark.slow
def test_mobilenet_is_prepared_and_converted_as_by_upstream(upstreams):
    """In full: it has few kinds of operators, but all of them in the order that folds norms."""
    program, inputs = exported(networks.mobilenet_v2)
    assert_same(program, STATIC, inputs, upstreams)


@pytest.mark.upgrade
def test_the_zoo_is_converted_as_by_upstream(upstreams):
    """Every pattern there is."""
    inputs = (torch.randn(4, 4),)
    program = torch.export.export(Zoo().eval(), inputs)
    assert_same(program, STATIC, inputs, upstreams)


@pytest.mark.slow
def test_the_core_ml_program_is_that_of_upstreams_flow(upstreams):
    """Through our stages, and by prepare_pt2e and convert_pt2e in one go: the same bytes ship.

    Both take their ranges from upstream's procedure, in which fake quantization is on: our own
    calibration observes the float model on purpose (``pte_foundry.quantize.pt2e``), so its ranges
    are others.
    """
    program, inputs = exported(networks.digits_cnn)
    theirs = upstreams(program, STATIC)
    with torch.no_grad():
        for _ in range(4):
            theirs(torch.rand_like(inputs[0]) * 16)
    statistics = {
        name: pt2e._range(name, observer) for name, observer in pt2e._observers(theirs).items()
    }
    ours = pt2e.convert(program, STATIC, statistics, inputs)
    expected = torch.export.export(convert_pt2e(theirs), inputs)
    forget_history(expected)  # ours forgot its own; debug handles are numbered by it
    target = TARGET | {"specification_version": 8}
    edges = [edge_program.make(each, []) for each in (ours, expected)]
    lowered = [canonical_pte(lower(edge, target), "all") for edge in edges]
    assert lowered[0] == lowered[1]


LINEARS_IN_FLOAT = {"activation_dtype": "float32"}


def test_upstream_ignores_settings_of_types_on_non_strict_programs(upstreams):
    """There it compares classes with their names; ours heeds them, as upstream on strict ones."""
    by_type = {"module_type_configs": {nn.Linear: LINEARS_IN_FLOAT}, **STATIC}
    ours = {"module_type_configs": {"torch.nn.Linear": LINEARS_IN_FLOAT}, **STATIC}
    program, _ = exported(networks.digits_cnn)
    ignoring = upstreams(program, by_type)
    assert equality.annotations(ignoring) == equality.annotations(upstreams(program, STATIC))
    heeding = noted(pt2e.prepare(program, ours))
    different = {name for name, note in noted(ignoring).items() if note != heeding[name]}
    assert different == {"linear", "linear_1", "relu_3"}
    strict, _ = exported(networks.digits_cnn, strict=True)
    assert equality.annotations(pt2e.prepare(strict, ours)) == equality.annotations(
        upstreams(strict, by_type)
    )


@pytest.mark.parametrize("strict", [False, True])
def test_upstream_quantizes_nothing_that_has_a_setting_by_name(strict, upstreams):
    """Weights have no module in the graph, so neither the name's settings nor the rest apply."""
    settings = {"module_name_configs": {"hidden": LINEARS_IN_FLOAT}, **STATIC}
    program, _ = exported(networks.digits_cnn, strict)
    theirs, ours = noted(upstreams(program, settings)), noted(pt2e.prepare(program, settings))
    assert theirs["linear"] is None
    assert ours["linear"][0]
    by_type = {"module_type_configs": {"torch.nn.Linear": LINEARS_IN_FLOAT}, **STATIC}
    assert ours["linear"] == noted(pt2e.prepare(program, by_type))["linear"]


class OnePool(nn.Module):
    """Three calls of one pooling module."""

    def __init__(self):
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(2, 2, 1) for _ in range(3))
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        for convolution in self.convolutions:
            x = self.pool(convolution(x))
        return x


def test_upstream_takes_the_calls_of_one_pool_for_one_call(upstreams):
    """On non-strict programs, which do not tell calls apart; where they do, ours is the same.

    It annotates the first call and one that a set has first, so a process differs from the next.
    """
    inputs = (torch.randn(1, 2, 8, 8),)
    programs = {s: torch.export.export(OnePool().eval(), inputs, strict=s) for s in (False, True)}
    found = {
        strict: get_source_partitions(program.graph, [nn.MaxPool2d])[nn.MaxPool2d]
        for strict, program in programs.items()
    }
    assert [len(partition.nodes) for partition in found[True]] == [1, 1, 1]
    assert [len(partition.nodes) for partition in found[False]] == [3]
    assert_same(programs[True], {}, inputs, upstreams)
    ours, theirs = (noted(prepare(programs[False], {})) for prepare in (pt2e.prepare, upstreams))
    pools = ["max_pool2d", "max_pool2d_1", "max_pool2d_2"]
    assert theirs["max_pool2d"]
    assert not all(theirs[pool] for pool in pools)
    assert all(ours[pool] for pool in pools)
    assert ours == noted(pt2e.prepare(programs[True], {}))
