"""Protects the three ways to lower dynamic shapes, and what reports say about the lengths."""

import pytest
import torch
from pte_foundry.errors import FoundryError, ProgramError
from pte_foundry.lowering import edge_program
from pte_foundry.lowering.coreml import lower
from pte_foundry.lowering.shape_bounds import fixed
from pte_foundry.models.tensors import Samples
from pte_foundry.pte import Pte
from pte_foundry.validate.accepted import accepted_sizes, run_ends, with_example_shapes
from torch import nn
from torch.export import Dim

from tests.unit.lowering.test_lowering import TARGET

ENUMERATED = {"Tokens": [[1, 1], [1, 6]], "position": [[1], [6]]}


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(8, 4)
        self.register_buffer("held", torch.zeros(1, 16, 4))

    def forward(self, Tokens, position):
        self.held[:, position] = self.embedding(Tokens)
        return self.held * 2


def sample(count):
    places = torch.arange(count, dtype=torch.int32)
    return places[None] % 8, places


@pytest.fixture(scope="module")
def program():
    count = Dim("count", min=1, max=8)
    shapes = {"Tokens": {1: count}, "position": {0: count}}
    return torch.export.export(
        Decoder().eval().requires_grad_(False), sample(4), dynamic_shapes=shapes
    )


@pytest.mark.parametrize(
    ("shapes", "taken", "refused", "said", "accepts"),
    [
        (
            "range",
            (1, 4, 8),
            (9,),
            r"input 0: .+ of shape at most \(1, 8\)",
            {"tokens": "int32[1, 1..8]", "position": "int32[1..8]"},
        ),
        (
            "enumerated",
            (1, 6),
            (4,),
            r"input 'tokens' is int32\[1, 4\], expected int32\[1, \?\] in the shapes",
            {
                "tokens": "int32[1, ?] in the shapes [1, 1], [1, 6]",
                "position": "int32[?] in the shapes [1], [6]",
            },
        ),
        ("fixed", (4,), (1, 8), r"input 0: .+, expected int32 of shape \(1, 4\)", {}),
    ],
)
def test_a_target_chooses_what_becomes_of_dynamic_shapes(
    program, shapes, taken, refused, said, accepts
):
    """A size of 1 was refused by ranges, and broke enumerations."""
    made = fixed(program) if shapes == "fixed" else program
    target = TARGET | ({"enumerated_shapes": ENUMERATED} if shapes == "enumerated" else {})
    pte = Pte.load(lower(edge_program.make(made, []), target))
    assert accepted_sizes(pte) == ({"forward": accepts} if accepts else {})
    for count in taken:
        pte.reset()
        wanted = Decoder().eval()(*sample(count))
        assert (pte.run(sample(count))[0] - wanted).abs().max() < 0.01
    for count in refused:
        with pytest.raises(FoundryError, match=said):
            pte.run(sample(count))


def test_a_static_program_is_fixed_already():
    program = torch.export.export(Decoder().eval(), sample(4))
    assert fixed(program) is program


def test_an_artifact_runs_at_the_ends_that_no_sample_has(program, monkeypatch):
    pte = Pte.load(lower(edge_program.make(program, []), TARGET))
    samples = Samples([sample(1), sample(4)], [], None, ["Tokens", "position"])
    ran, run = [], pte.run

    def recorded(inputs, method):
        ran.append([tuple(tensor.shape) for tensor in inputs])
        return run(inputs, method)

    monkeypatch.setattr(pte, "run", recorded)
    run_ends(pte, samples)
    assert ran == [[(1, 8), (8,)]]

    def fails(inputs, method):
        raise ValueError("a wrong shape")

    monkeypatch.setattr(pte, "run", fails)
    said = r"it declares, Tokens \[1, 8\], position \[8\] in forward: a wrong shape"
    with pytest.raises(ProgramError, match=said):
        run_ends(pte, samples)


class Model:
    plays = False

    def example_inputs(self):
        return sample(4)


def test_a_program_with_fixed_shapes_is_validated_on_the_samples_that_it_takes():
    counts = [4, 1, 4]
    outputs = [(torch.full((1,), float(n)),) for n in range(3)]
    samples = Samples(list(map(sample, counts)), outputs, torch.arange(3))
    quantized = Samples([], outputs, torch.arange(3))
    ours, theirs = with_example_shapes(Model(), samples, quantized)
    assert len(ours.inputs) == 2
    assert [output[0].item() for output in theirs.outputs] == [0, 2]
    assert ours.labels.tolist() == [0, 2]
