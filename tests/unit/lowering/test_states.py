"""Programs with mutable buffers: as Core ML states, and as ExecuTorch's own buffers."""

import copy

import pytest
import torch
from pte_foundry.formats.inspect_pte import describe
from pte_foundry.lowering import edge_program
from pte_foundry.lowering.coreml import lower
from pte_foundry.lowering.states import StateError, check_taken_over
from pte_foundry.models.export import export
from pte_foundry.pte import Pte
from torch import nn

from tests.stub_model import ModelOf
from tests.unit.lowering.test_lowering import TARGET


class Stateful(nn.Module):
    def __init__(self, start=0.0, persistent=True):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.register_buffer("held", torch.full((1, 8), start), persistent=persistent)


class Sum(Stateful):
    """The write is the buffer's only user (Core ML case of public report executorch#21855)."""

    def forward(self, x):
        self.held.add_(self.linear(x))
        return self.held * 2


class ReadFirst(Stateful):
    def forward(self, x):
        y = self.linear(x)
        self.held.copy_(self.held * 0.5 + y)
        return self.held + y


class Returned(Stateful):
    """The new value of the buffer is an output too."""

    def forward(self, x):
        self.held.mul_(0.5).add_(self.linear(x))
        return self.held


class TakesInput(Stateful):
    """The new value of the buffer is an input."""

    def forward(self, x):
        y = self.linear(x) + self.held
        self.held.copy_(x)
        return y


class Counter(nn.Module):
    """Counts its calls in a number."""

    def __init__(self, start):
        super().__init__()
        self.register_buffer("steps", start)

    def forward(self, x):
        self.steps.add_(1)
        return x + self.steps


class Position(nn.Module):
    """A cache that is written at a position known at run time (public report executorch#9213)."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.register_buffer("held", torch.zeros(1, 4, 8))

    def forward(self, x):
        p = (x[0, 0] > 0).int().item()
        torch._check(p >= 0)
        torch._check(p < 4)
        self.held.narrow(1, p, 1).copy_(self.linear(x)[None])
        return self.held.sum(1)


def target(version, **partitioner):
    options = TARGET["partitioner"] | {"take_over_mutable_buffer": version >= 9} | partitioner
    return TARGET | {"specification_version": version, "partitioner": options}


def lowered(module, version, **partitioner):
    program = export(ModelOf(module, torch.zeros(1, 8)), copy.deepcopy(module))
    return lower(edge_program.make(program, []), target(version, **partitioner))


def largest_error(module, pte, calls=4):
    generator = torch.Generator().manual_seed(1)
    eager, artifact, error = copy.deepcopy(module), Pte.load(pte), 0.0
    for _ in range(calls):
        x = torch.randn(1, 8, generator=generator)
        with torch.no_grad():
            error = max(error, (artifact.run((x,))[0] - eager(x)).abs().max().item())
    return error


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("kind", [Sum, ReadFirst, Returned, TakesInput, Position])
def test_buffers_become_states_on_ios18(kind):
    module = kind().eval()
    pte = lowered(module, 9)
    assert describe(pte).states == ("held",)
    assert describe(pte).delegated_fraction == 1.0
    assert largest_error(module, pte) < 0.01


@pytest.mark.parametrize("kind", [Sum, ReadFirst, TakesInput, Position])
@pytest.mark.parametrize("version", [7, 8])
def test_older_systems_leave_buffers_to_executorch(kind, version):
    """Failed for parameters that require grad; the copy of the new value is not undelegated."""
    module = kind().eval()
    pte = lowered(module, version)
    assert describe(pte).states == ()
    assert describe(pte).kernels == {"aten::copy_": 1}
    assert describe(pte).delegated_fraction == 1.0
    assert largest_error(module, pte) < 0.01


def test_states_can_be_declined_on_ios18():
    module = ReadFirst().eval()
    pte = lowered(module, 9, take_over_mutable_buffer=False)
    assert describe(pte).states == ()
    assert largest_error(module, pte) < 0.01


@pytest.mark.parametrize("persistent", [True, False])
def test_executorch_buffers_start_with_their_values(persistent):
    """Upstream writes shapes only, so a buffer of ones would start with zeros."""
    module = ReadFirst(start=1.0, persistent=persistent).eval()
    pte = Pte.load(lowered(module, 8))
    x = torch.ones(1, 8)
    with torch.no_grad():
        expected = copy.deepcopy(module)(x)
    for _ in range(2):
        assert (pte.run((x,))[0] - expected).abs().max() < 0.01
        pte.reset()


@pytest.mark.parametrize("persistent", [True, False])
def test_a_state_cannot_start_with_values(persistent):
    with pytest.raises(StateError, match=r"held starts with values other than zero.*: false"):
        lowered(ReadFirst(start=1.0, persistent=persistent).eval(), 9)


@pytest.mark.parametrize("start", [torch.tensor(0), torch.tensor(0.0)])
def test_a_counter_without_dimensions_is_no_state(start):
    """It was lowered, and the artifact could not be loaded."""
    program = torch.export.export(Counter(start), (torch.ones(1, 4),))
    with pytest.raises(StateError, match=r"buffer steps has no dimensions.*torch\.zeros\(1\)"):
        lower(edge_program.make(program, []), TARGET | {"specification_version": 9})
    options = TARGET["partitioner"] | {"take_over_mutable_buffer": False}
    pte = Pte.load(lower(edge_program.make(program, []), TARGET | {"partitioner": options}))
    assert [pte.run((torch.ones(1, 4),))[0].max() for _ in range(3)] == [2, 3, 4]


def test_states_of_a_target_without_states_are_refused():
    with pytest.raises(StateError, match="cache became a Core ML state, although"):
        check_taken_over({"cache"}, frozenset(), frozenset(), allowed=False)
