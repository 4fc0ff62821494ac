"""Protects the lower limits of dynamic sizes: a batch of one, a single token."""

import pytest
import torch
from executorch.exir import to_edge
from pte_foundry.upstream import torch_size_ranges
from torch.export import Dim

from tests.unit.lowering.both_ways import exported

X = torch.ones(4, 3)


def doubled(x):
    return x * 2


def low(program):
    (limits,) = program.range_constraints.values()
    return int(limits.lower)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (Dim("n", max=8), 1),
        (Dim("n", min=1, max=8), 1),
        (Dim("n", min=3, max=8), 3),
        (Dim.AUTO, 1),
        (Dim.DYNAMIC(max=8), 1),
        (Dim.AUTO(min=1, max=8), 1),
        (Dim.AUTO(min=2, max=8), 2),
        (Dim.DYNAMIC(min=3), 3),
    ],
    ids=str,
)
def test_limits_are_those_of_the_declaration(size, expected):
    program = exported(doubled, (X,), (({0: size},),))
    torch_size_ranges.restore_declared(program, [{0: size}])
    assert low(program) == expected
    edge = to_edge(program).exported_program()
    torch_size_ranges.restore(edge, program)
    assert low(edge) == expected


def test_upstream_still_raises_a_limit_of_one():
    """If this fails, upstream has fixed it: remove ``restore`` or ``restore_declared``."""
    program = exported(doubled, (X,), (({0: Dim("n", min=1, max=8)},),))
    assert (low(program), low(to_edge(program).exported_program())) == (1, 2)
    assert low(exported(doubled, (X,), (({0: Dim.AUTO(min=1)},),))) == 2
