"""Protects LSTMs: whole, in every form that the converter takes, and unrolled in the others."""

import pytest
import torch
from pte_foundry.bench.operators.program import lowered_by_upstream, target
from pte_foundry.lowering import coreml, edge_program
from pte_foundry.pte import Pte
from pte_foundry.upstream.coremltools_lstm import whole_lstms

STEPS, BATCH, WIDTH, HIDDEN = 5, 2, 6, 4


class Lstm(torch.nn.Module):
    def __init__(self, **options):
        super().__init__()
        torch.manual_seed(0)
        self.lstm = torch.nn.LSTM(WIDTH, HIDDEN, **options)

    def forward(self, x, h, c):
        y, (h, c) = self.lstm(x, (h, c))
        return y, h, c


def exported(**options):
    """A network, its inputs with states that are not zero, and its program."""
    network = Lstm(**options).eval()
    layers = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    steps = (BATCH, STEPS) if options.get("batch_first") else (STEPS, BATCH)
    inputs = (
        torch.randn(*steps, WIDTH),
        torch.randn(layers, BATCH, options.get("proj_size", HIDDEN)),
        torch.randn(layers, BATCH, HIDDEN),
    )
    return network, inputs, torch.export.export(network, inputs)


def operations(pte):
    (delegate,) = pte.delegates
    return [operation.op for operation in delegate.program.operations()]


BOTH_WAYS = {"num_layers": 2, "bidirectional": True, "bias": False, "batch_first": True}


@pytest.mark.parametrize(
    ("options", "layers", "precision", "version", "tolerance"),
    [
        ({}, 1, "float32", 9, 1e-5),
        (BOTH_WAYS, 2, "float32", 9, 1e-5),
        ({"proj_size": 3}, 0, "float32", 9, 1e-5),
        ({"batch_first": True}, 1, "float16", 8, 1e-2),
    ],
)
def test_states_and_outputs_are_right_and_each_layer_is_one_operation(
    tmp_path, options, layers, precision, version, tolerance
):
    network, inputs, program = exported(**options)
    edge = edge_program.make(program, [])
    metadata = edge_program.save(edge, tmp_path / "edge.pt2")
    loaded = edge_program.load(tmp_path / "edge.pt2", metadata)
    pte = Pte.load(coreml.lower(loaded, target(precision, version)))
    for ours, theirs in zip(pte.run(inputs), network(*inputs), strict=True):
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)
    assert operations(pte).count("lstm") == layers


def test_upstream_still_unrolls():
    """If this fails, upstream has fixed it: remove whole_lstms."""
    with whole_lstms():
        pass  # and is undone
    _, _, program = exported()
    found = operations(Pte.load(lowered_by_upstream(program, "float32")))
    assert "lstm" not in found
    assert found.count("sigmoid") == 3 * STEPS
