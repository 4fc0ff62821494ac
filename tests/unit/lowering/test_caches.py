"""Protects the ways in which models write a cache: every one, for one, several and any number of
tokens, executed over several calls against the eager model.

To add a way, write its function: a row of :data:`WAYS`.
"""

import copy

import pytest
import torch
from pte_foundry.formats.inspect_pte import describe
from pte_foundry.lowering import edge_program
from pte_foundry.lowering.coreml import lower
from pte_foundry.pte import Pte
from torch import nn
from torch.export import Dim

from tests.unit.lowering.test_lowering import TARGET

LENGTH = 16


def start(position, count):
    first = position[0].item()
    torch._check(first >= 0)
    torch._check(first + count <= LENGTH)
    return first


def index(held, new, position):
    held[:, :, position] = new


def index_negative(held, new, position):
    held[:, :, position - LENGTH] = new


def index_first_axis(held, new, position):
    held.permute(2, 0, 1, 3)[position] = new.permute(2, 0, 1, 3)


def index_row(held, new, position):
    held[0, :, position] = new[0]


def index_two_apart(held, new, position):
    held[torch.tensor([0]), :, position] = new[0].transpose(0, 1)


def index_all_axes(held, new, position):
    held[0, torch.arange(2)[:, None], position[None]] = new[0]


def index_sum(held, new, position):
    held[:, :, position] += new


def index_one_value(held, new, position):
    held[:, :, position] = new[:, :, :1]


def index_ring(held, new, position):
    held[:, :, position % 4] = new


def index_copy(held, new, position):
    held.index_copy_(-2, position.long(), new)


def index_add(held, new, position):
    held.index_add_(2, position, new)


def scatter(held, new, position):
    held.scatter_(2, position.long()[None, None, :, None].expand_as(new), new)


def scatter_add(held, new, position):
    held.scatter_add_(2, position.long()[None, None, :, None].expand_as(new), new)


def scatter_number(held, new, position):
    held.scatter_(2, position.long()[None, None, :, None].expand_as(new), 0.25)


def index_fill(held, new, position):
    held.index_fill_(2, position.long(), 0.5)


def slice_assignment(held, new, position):
    first = start(position, new.size(2))
    held[:, :, first : first + new.size(2)] = new


def narrow(held, new, position):
    held.narrow(2, start(position, new.size(2)), new.size(2)).copy_(new)


def slice_scatter(held, new, position):
    first = start(position, new.size(2))
    held.copy_(torch.slice_scatter(held, new, 2, first, first + new.size(2)))


def select(held, new, position):
    held.select(2, start(position, 1)).copy_(new[:, :, 0])


def where(held, new, position):
    hit = torch.arange(LENGTH)[:, None] == position
    held.copy_(torch.where(hit.any(1)[None, None, :, None], hit.float() @ new, held))


def one_hot(held, new, position):
    hit = (torch.arange(LENGTH)[:, None] == position).float()
    held.copy_(held * (1 - hit.sum(1))[:, None] + hit @ new)


def window(held, new, position):
    held.copy_(torch.cat([held, new], 2)[:, :, -LENGTH:])


def window_from_the_left(held, new, position):
    held.copy_(torch.cat([held[:, :, new.size(2) :], new], 2))


WAYS = (
    index,
    index_negative,
    index_first_axis,
    index_row,
    index_two_apart,
    index_all_axes,
    index_sum,
    index_one_value,
    index_ring,
    index_copy,
    index_add,
    scatter,
    scatter_add,
    scatter_number,
    index_fill,
    slice_assignment,
    narrow,
    slice_scatter,
    select,
    where,
    one_hot,
    window,
    window_from_the_left,
)


class Caches(nn.Module):
    """One buffer for each way: a lowering of all takes hardly longer than one of a single one."""

    def __init__(self, ways):
        super().__init__()
        self.ways = ways
        for way in ways:
            self.register_buffer(way.__name__, torch.zeros(1, 2, LENGTH, 4))

    def forward(self, x, position):
        new = x.view(1, -1, 2, 4).transpose(1, 2)
        found = {}
        for way in self.ways:
            held = getattr(self, way.__name__)
            way(held, new, position)
            found[way.__name__ + "_read"] = held * 2
        return found


def sample(first, count):
    generator = torch.Generator().manual_seed(first)
    x = torch.randn(1, count, 8, generator=generator)
    return x, torch.arange(first, first + count, dtype=torch.int32)


@pytest.mark.parametrize(
    ("counts", "specification", "ways"),
    [
        pytest.param(["any", 4, 1, 3], 9, WAYS, id="any number of tokens"),
        pytest.param([1, 1], 9, WAYS[:6], id="one token, six ways"),
        pytest.param(["any", 4, 1], 7, WAYS[1:2], id="negative places on iOS16"),
    ],
)
def test_every_way_to_write_a_cache_is_right(counts, specification, ways):
    """From iOS17 on negative places are undefined, before iOS18 ExecuTorch keeps the buffers.

    One token is a fixed size for some of the ways only, because lowering all takes 20 s.
    """
    dynamic = {"x": {1: Dim("t", min=1, max=8)}, "position": {0: Dim("t", min=1, max=8)}}
    shapes = dynamic if counts[0] == "any" else None
    counts = counts[counts[0] == "any" :]
    states = specification == 9
    network = Caches(ways)
    program = torch.export.export(network, sample(0, counts[0]), dynamic_shapes=shapes)
    options = TARGET["partitioner"] | {"take_over_mutable_buffer": states}
    target = TARGET | {"specification_version": specification, "partitioner": options}
    written = lower(edge_program.make(program, []), target)
    assert describe(written).delegated_fraction == 1.0
    assert len(describe(written).states) == states * len(ways)
    pte, eager, first = Pte.load(written), copy.deepcopy(network), 0
    for count in counts:
        given = sample(first, count)
        found = zip(pte.run(given), eager(*given).items(), strict=True)
        wrong = {name for got, (name, wanted) in found if (got - wanted).abs().max() > 0.02}
        assert wrong == set(), (first, count)
        first += count
