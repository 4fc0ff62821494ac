"""Protects divisions of integers from being computed in floating point."""

import pytest
import torch
from pte_foundry.upstream.coremltools_division import whole_divisions

from tests.unit.lowering import both_ways
from tests.unit.lowering.both_ways import decibels, target

IDS = torch.tensor([[40001, 60009, -7, -40000, 2049], [-50003, 3, 32767, 99999, -1]])
BY = torch.tensor([[10, -7, 3, 9, -2049]])

CASES = {
    "floor by a number": lambda ids, _: (ids // 10, ids // -7),
    "floor by a tensor": lambda ids, by: ids // by,
    "div floor": lambda ids, by: torch.div(ids, by, rounding_mode="floor"),
    "div trunc": lambda ids, by: torch.div(ids, by, rounding_mode="trunc"),
    "div trunc by a number": lambda ids, _: torch.div(ids, -10, rounding_mode="trunc"),
    "remainder": lambda ids, by: (ids % 7, ids % by, ids % -10),
}


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_a_rounded_division_of_integers_is_exact(name, precision):
    function = CASES[name]
    assert decibels(both_ways.ours, function, (IDS, BY), target(precision)) == float("inf")


@pytest.mark.parametrize("name", ["div floor", "div trunc"])
def test_upstream_still_has_the_fault(name):
    """If this fails, upstream has fixed it: remove whole_divisions."""
    assert decibels(both_ways.upstream, CASES[name], (IDS, BY), target("float16")) < 80


def test_floating_point_is_divided_as_upstream_does():
    def division(x):
        down, to_zero = (torch.div(x, 0.7, rounding_mode=mode) for mode in ("floor", "trunc"))
        return down, to_zero, x / 3

    program = both_ways.exported(division, (torch.linspace(-5, 5, 8),))
    with whole_divisions():
        ours = both_ways.upstream(program, target())
    assert len(ours) == len(both_ways.upstream(program, target()))
