"""Protects outputs of one value: each has a name and a buffer of its own."""

import pytest
import torch
from pte_foundry.pte import Pte
from pte_foundry.upstream.coremltools_twin_outputs import single_outputs

from tests.unit.lowering import both_ways
from tests.unit.lowering.both_ways import decibels, target
from tests.unit.lowering.test_rewrites import normal

PAIRS = {
    "dropout": lambda y: (y, torch.dropout(y, 0.1, False)),
    "times one": lambda y: (y, y * 1),
    "plus nothing": lambda y: (y, y + 0),
    "clone": lambda y: (y, y.clone()),
    "twice computed": lambda y: (torch.relu(y), torch.relu(y)),
    "its own shape": lambda y: (y, y.reshape(2, 3), y.expand(2, 3)),
    "itself": lambda y: (y, y),
    "five": lambda y: (y, y * 1, torch.relu(y), y + 0, torch.relu(y)),
    "integers": lambda y: ((y * 9).int() + 1, ((y * 9).int() + 1) * 1),
}


def of(name):
    return (lambda x: PAIRS[name](x.sin())), (normal(2, 3),)


def names(written):
    return Pte.load(written).delegates[0].model.names("main")[1]


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("name", PAIRS)
def test_outputs_of_one_value_are_right_and_have_different_names(name, precision):
    function, inputs = of(name)
    written = []

    def ours(program, target):
        written.append(both_ways.ours(program, target))
        return written[0]

    assert decibels(ours, function, inputs, target(precision)) > 50
    assert len(set(names(written[0]))) == len(names(written[0]))


def test_upstream_still_gives_two_outputs_one_name():
    """If this fails, upstream has fixed it: remove single_outputs."""
    program = both_ways.exported(*of("times one"))
    upstream = names(both_ways.upstream(program, target("float16")))
    assert len(set(upstream)) < len(upstream)
    with single_outputs():
        ours = names(both_ways.upstream(program, target("float16")))
    assert len(set(ours)) == len(ours)
