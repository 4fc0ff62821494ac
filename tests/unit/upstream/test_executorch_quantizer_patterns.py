"""Protects the equality of our fast annotation with ``CoreMLQuantizer``'s own."""

import copy
import inspect
import operator

import pytest
import torch
import torch.nn.functional as F
from coremltools.optimize.torch.quantization import LinearQuantizerConfig
from executorch.backends.apple.coreml.quantizer import CoreMLQuantizer
from executorch.backends.apple.coreml.quantizer import _coreml_quantizer_utils as upstream
from pte_foundry.bench.equality import annotations
from pte_foundry.quantize.annotate import Quantizer
from pte_foundry.upstream import executorch_quantizer_patterns as patterns
from torch import nn
from torchao.quantization.pt2e import utils as torchao_utils

from tests.unit.upstream.source_digest import assert_source_digest

BINARY = (
    operator.add,
    torch.add,
    operator.iadd,
    operator.mul,
    torch.mul,
    operator.imul,
    torch.matmul,
)
ACTIVATIONS = [
    *((act, in_place) for act in upstream._supported_activations for in_place in (False, True)),
    *((act, False) for act in upstream._supported_activations_no_inplace),
]


def unexported(monkeypatch, make):
    """The ``Pattern`` that upstream's factory ``make`` would have exported."""
    with monkeypatch.context() as context:
        context.setattr(upstream, "_get_aten_graph_module", patterns.Pattern)
        return make()


def factories(activations):
    for act, in_place in activations:
        for dim in (1, 2, 3):
            yield lambda d=dim, a=act, i=in_place: upstream.get_conv_pattern(d, a, i)
            yield lambda d=dim, a=act, i=in_place: upstream.get_conv_bn_pattern(d, a, i)
        yield lambda a=act, i=in_place: upstream.get_linear_pattern(a, i)
        yield lambda a=act, i=in_place: upstream.get_linear_bn_pattern(a, i)
        for op in BINARY:
            yield lambda o=op, a=act, i=in_place: upstream.get_binary_op_act_pattern(o, a, i)


def graph_of(module):
    """Everything of a pattern that upstream's matcher looks at."""
    module.graph.eliminate_dead_code()
    nodes = [n for n in module.graph.nodes if n.op in ("placeholder", "call_function", "output")]
    place = {node: number for number, node in enumerate(nodes)}
    rows = [
        (n.op, "" if n.op == "placeholder" else str(n.target), torch.fx.map_arg(n.args, place.get))
        for n in nodes
    ]
    return rows, module._out_spec


@pytest.mark.parametrize(
    ("source", "digest"),
    [
        (upstream, "e6e32b0fb5889af5a9f571dbc73c2b50f48592161a9461fbc3cf927e2cf9eed9"),
        (
            inspect.getmodule(CoreMLQuantizer),
            "480a63ccc019c03a07b0abaeab0af7f8e33e32ed845028ea8311f1d11d52d241",
        ),
        (
            torchao_utils._get_aten_graph_module_for_pattern,
            "2760e12e1e6e532552517a34f0672e8316b8a6aa55ecd7e70590cec1e2ca5c84",
        ),
    ],
    ids=["annotation", "quantizer", "export"],
)
def test_upstream_is_what_was_read(source, digest):
    check = "Read again what annotates, what a pattern is, and how it is exported."
    assert_source_digest(source, digest, check)


def test_operators_are_those_of_real_exports(monkeypatch):
    """A wrong operator name would skip a pattern that matches."""
    makers = [*factories([(None, False)])]
    makers += [lambda a=a, i=i: upstream.get_linear_bn_pattern(a, i) for a, i in ACTIVATIONS]
    for make in makers:
        pattern = unexported(monkeypatch, make)
        assert pattern.operators == patterns._operator_names(pattern.export().graph)


def test_export_hands_out_copies(monkeypatch):
    """Upstream's matcher changes the graph that it is given; the cached one must not suffer."""
    pattern = unexported(monkeypatch, lambda: upstream.get_linear_pattern(F.relu))
    first, second = pattern.export(), pattern.export()
    assert first is not second
    first.graph.erase_node(next(iter(reversed(first.graph.nodes))))
    assert len(second.graph.nodes) == len(pattern.export().graph.nodes)


def test_replaced_functions_come_back():
    """Also after an error, and the dead code is gone as after upstream's first pattern."""
    originals = (upstream._get_aten_graph_module, upstream.annotate_weighted_mod_pattern)
    module = torch.fx.symbolic_trace(nn.ReLU())
    with pytest.raises(KeyError), patterns.fast_patterns(module):
        raise KeyError
    assert originals == (upstream._get_aten_graph_module, upstream.annotate_weighted_mod_pattern)


def test_skips_every_pattern_of_an_empty_model(monkeypatch):
    """No export at all where nothing can match: that is where the minute went."""
    monkeypatch.setattr(patterns.Pattern, "export", lambda _: pytest.fail("exported"))
    module = torch.export.export(nn.Softmax(dim=1), (torch.randn(2, 3),)).module()
    Quantizer({}).annotate(module)


class Zoo(nn.Module):
    """Every pattern that upstream knows, as branches that do not meet.

    Each branch has weights of its own: upstream annotates a weight only once.
    """

    def __init__(self):
        super().__init__()
        convs = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
        norms = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
        many = range(len(ACTIVATIONS) + 12)
        self.convs = nn.ModuleDict(
            {
                str(dim): nn.ModuleList(conv(2, 2, 1, bias=i % 2 == 0) for i in (*many, *many))
                for dim, conv in convs.items()
            }
        )
        self.norms = nn.ModuleDict({str(dim): norm(2) for dim, norm in norms.items()})
        self.linears = nn.ModuleList(nn.Linear(4, 4, bias=i % 3 != 0) for i in (*many,) * 5)
        self.norm = nn.BatchNorm1d(4)
        self.pools = nn.ModuleList(
            [nn.MaxPool2d(2), nn.AvgPool2d(1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        )
        self.last = nn.AvgPool2d(1)  # called once, as all pools: see the test for several calls
        self.acts = nn.ModuleList([nn.ReLU(), nn.ReLU6(), nn.Hardswish(inplace=True), nn.Tanh()])

    def forward(self, x):
        linears = list(self.linears)
        convs = {dim: list(self.convs[str(dim)]) for dim in (1, 2, 3)}
        shaped = {
            1: x.reshape(4, 2, 2),
            2: torch.cat([x, x]).reshape(4, 2, 2, 2),
            3: torch.cat([x] * 4).reshape(4, 2, 2, 2, 2),
        }
        out = []
        for act, in_place in ACTIVATIONS:
            keep = {"inplace": True} if in_place else {}
            out.append(act(linears.pop()(x), **keep))
            out.append(act(self.norm(linears.pop()(x)), **keep))
            out.append(act(x @ x, **keep))
            for dim, value in shaped.items():
                out.append(act(convs[dim].pop()(value), **keep))
                out.append(act(self.norms[str(dim)](convs[dim].pop()(value)), **keep))
            out.append(act(x + linears.pop()(x), **keep))
            out.append(act(torch.mul(x, 2.0), **keep))
            if in_place:
                value = linears.pop()(x)
                value += x
                out.append(act(value, **keep))
                value = linears.pop()(x)
                value *= x
                out.append(act(value, **keep))
        for dim, value in shaped.items():
            out.append(self.norms[str(dim)](convs[dim].pop()(value)))
            out.append(convs[dim].pop()(value))
            out += [act(convs[dim].pop()(value)) for act in self.acts]
        first = convs[2].pop()(shaped[2])
        out += [first + first, first * 3, torch.matmul(first, first), self.norm(linears.pop()(x))]
        for pool in self.pools:
            first = pool(first)
        out += [first, F.max_pool2d(shaped[2], 2), F.adaptive_avg_pool2d(out[3], 1)]
        out += [torch.flatten(self.last(convs[2].pop()(shaped[2]) + 1), 1), x.mean()]
        return out


def zoo_annotations(monkeypatch, strict, export):
    """Our annotations of the zoo and upstream's, with the patterns that ``export`` makes."""
    program = torch.export.export(Zoo().eval(), (torch.randn(4, 4),), strict=strict)
    ours, theirs = program.module(), program.module()
    Quantizer({}).annotate(ours)
    monkeypatch.setattr(upstream, "_get_aten_graph_module", export)
    CoreMLQuantizer(LinearQuantizerConfig()).annotate(theirs)
    return annotations(ours), annotations(theirs)


def exported(monkeypatch, makers):
    """Upstream's patterns by our keys; each equals ours."""
    found = {}
    for make in makers:
        pattern = unexported(monkeypatch, make)
        real = make()
        found[pattern.key] = copy.deepcopy(real)
        assert graph_of(pattern.export()) == graph_of(real)
        assert pattern.operators == patterns._operator_names(real.graph)
    return found


def test_patterns_equal_upstreams(monkeypatch):
    """Non-strict export gives the same pattern as upstream's strict one: every tenth of them."""
    makers = list(factories([(None, False), *ACTIVATIONS]))[::10]
    assert len(exported(monkeypatch, makers)) > 30


@pytest.mark.upgrade
def test_every_pattern_equals_upstreams(monkeypatch):
    """All 405 patterns, and the annotation on every node of the zoo, as upstream makes them."""
    real = exported(monkeypatch, factories([(None, False), *ACTIVATIONS]))
    assert len(real) == 405
    ours, theirs = zoo_annotations(
        monkeypatch,
        strict=False,
        export=lambda *pattern: copy.deepcopy(real[patterns.Pattern(*pattern).key]),
    )
    assert ours == theirs


@pytest.mark.upgrade
def test_skipping_changes_no_annotation_of_a_strict_export(monkeypatch):
    """Against all of upstream's code but for the exports, whose equality the test above proves."""
    ours, theirs = zoo_annotations(
        monkeypatch, strict=True, export=lambda *pattern: patterns.Pattern(*pattern).export()
    )
    assert ours == theirs
    assert sum(note is not None and note[0] for *_, note in ours) > len(ACTIVATIONS) * 15
