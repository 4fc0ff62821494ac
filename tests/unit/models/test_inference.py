"""Every sample starts from the initial values of the model's buffers."""

import torch
from pte_foundry.models.export import export
from pte_foundry.models.inference import evaluate, reference
from pte_foundry.models.tensors import Samples
from pte_foundry.quantize import pt2e
from torch import nn

from tests.stub_model import ModelOf


class Counter(nn.Module):
    """Also changes a buffer by constants only, which constant folding must not take away."""

    def __init__(self, rebinds=False):
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.rebinds = rebinds
        self.register_buffer("total", torch.ones(1, 2))
        self.register_buffer("calls", torch.zeros(1), persistent=False)

    def forward(self, x):
        self.calls.add_(1)
        if self.rebinds:
            self.total = self.total * 0.5 + self.linear(x)
        else:
            self.total.mul_(0.5).add_(self.linear(x))
        return self.total + self.calls


def model_of(rebinds=False):
    torch.manual_seed(0)
    return ModelOf(Counter(rebinds).eval(), torch.ones(1, 2))


def test_the_order_of_samples_has_no_effect_on_the_reference():
    for rebinds in (False, True):
        outputs = reference(model_of(rebinds)).outputs
        assert torch.equal(outputs[0][0], outputs[2][0])
        assert not torch.equal(outputs[0][0], outputs[1][0])


def test_a_quantized_program_starts_every_sample_anew():
    model = model_of()
    expected = reference(model_of())
    outputs = evaluate(export(model, model.build()), expected).outputs
    for (ours,), (theirs,) in zip(outputs, expected.outputs, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_quantization_keeps_the_initial_values():
    """Calibration and conversion run the program, which changes its buffers."""
    model = model_of()
    program = export(model, model.build())
    settings = {"global_config": {"quantization_scheme": "symmetric"}}
    statistics = pt2e.calibrate(program, settings, model.evaluation()[0])
    assert statistics == pt2e.calibrate(program, settings, model.evaluation()[0])
    converted = pt2e.convert(program, settings, statistics, model.example_inputs())
    outputs = evaluate(converted, Samples(model.evaluation()[0], [], None)).outputs
    assert torch.equal(outputs[0][0], outputs[2][0])
    assert (outputs[0][0] - reference(model_of()).outputs[0][0]).abs().max() < 0.1


class Buckets(nn.Module):
    """Adds to a constant in place, and through a view, as T5 computes its relative positions."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(8, 2)

    def forward(self, x):
        steps = torch.arange(x.shape[1])
        buckets = steps * 0
        buckets += torch.where(steps < 1, steps, steps.clamp(max=2))
        buckets.view(1, -1)[0, :1].add_(3)
        return x[..., None] + self.table(buckets)


def test_constants_that_are_changed_in_place_do_not_change_between_samples():
    """Folded once and changed by every sample, they gave an index out of range."""
    module = Buckets().eval()
    inputs = [(torch.zeros(1, 3),)] * 4
    program = torch.export.export(module, inputs[0], strict=False)
    outputs = evaluate(program, Samples(inputs, [], None)).outputs
    for (output,) in outputs:
        torch.testing.assert_close(output, module(*inputs[0]))
