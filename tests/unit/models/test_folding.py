"""Protects what is computed once of a quantized program: never twice in memory, never changed."""

import torch
from pte_foundry.models.folding import Folding
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

WIDTH = 64


class Compressed(nn.Module):
    """Its weights are computed of codes, the first one of the others through a chain of views."""

    def __init__(self, layers=6):
        super().__init__()
        torch.manual_seed(0)
        codes = torch.randint(-8, 8, (layers, WIDTH, WIDTH), dtype=torch.int8)
        self.codes = nn.ParameterList(nn.Parameter(c, requires_grad=False) for c in codes)
        self.register_buffer("held", torch.zeros(1))

    def forward(self, x):
        self.held.add_(1)
        for codes in self.codes:
            scaled = codes.float() * 0.1
            for _ in range(2):
                scaled = scaled + scaled.T
            x = torch.tanh(x @ scaled) + torch.arange(WIDTH)
        return x + self.held


class Allocated(TorchDispatchMode):
    """Counts the calls of operators that make a float of a weight's size."""

    def __init__(self):
        super().__init__()
        self.made = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and found.shape == (WIDTH, WIDTH):
            self.made += found.is_floating_point() and not func.is_view
        return found


def exported(module, rows):
    return torch.export.export(module.eval(), (torch.ones(rows, WIDTH),), strict=False)


def test_constants_are_computed_once_and_what_changes_is_not_folded():
    module = Compressed()
    program = exported(module, 2)
    expected = [module(torch.ones(2, WIDTH)) for _ in range(2)]
    module.held.zero_()  # the program has the same buffer
    folded = Folding().fold(program.module())
    with torch.no_grad(), Allocated() as counted:
        found = [folded(torch.ones(2, WIDTH)) for _ in range(2)]
    assert counted.made == 0
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert dict(folded.named_buffers()).keys() == {"held"}, "what a sample starts from"
    made = [value.data_ptr() for name, value in folded.named_parameters() if "folded" in name]
    assert (len(made), len(set(made))) == (12, 7), "six weights, and one arange"


def test_methods_share_what_is_computed_of_the_same_weights():
    module, folding = Compressed(), Folding()
    first, second = (folding.fold(exported(module, rows).module()) for rows in (2, 3))
    pointers = [
        {name: value.data_ptr() for name, value in one.named_parameters() if "folded" in name}
        for one in (first, second)
    ]
    assert pointers[0] == pointers[1]
    other = Folding().fold(exported(Compressed(), 2).module())
    assert other.folded_add_1.data_ptr() not in pointers[0].values()


def test_a_constant_is_used_by_another_one_and_by_what_changes():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x):
            first = self.weight * 2
            return x + first, x + (first + 1)

    program = torch.export.export(Both().eval(), (torch.zeros(3),))
    found = Folding().fold(program.module())(torch.zeros(3))
    assert [value[0].item() for value in found] == [2, 3]


def test_equal_operators_of_other_constants_are_other_values():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.ones(3)), nn.Parameter(torch.zeros(3))

        def forward(self, x):
            return x + self.a * 2, x + self.b * 2, x + self.a * 3, x + self.a[1:].sum()

    program = torch.export.export(Two().eval(), (torch.zeros(3),))
    found = Folding().fold(program.module())(torch.zeros(3))
    assert [value[0].item() for value in found] == [2, 0, 3, 2]
