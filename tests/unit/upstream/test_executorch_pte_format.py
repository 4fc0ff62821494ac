"""Protects that upstream's writer and reader of whole programs agree, whatever we change."""

import pytest
import torch
from executorch.exir import to_edge
from pte_foundry.upstream.executorch_pte_format import named_data, read, write


@pytest.fixture(scope="module")
def pte():
    program = torch.export.export(torch.nn.Linear(4, 4), (torch.zeros(1, 4),))
    return bytes(to_edge(program).to_executorch().buffer)


def test_a_program_that_is_read_and_written_is_the_same_program(pte):
    """Its bytes are others at first: flatc lays out an emitted program in another order."""
    written = write(read(pte), delegate_segments=True)
    assert read(written).program == read(pte).program
    assert write(read(written), delegate_segments=True) == written


def test_named_data_is_written_and_read_in_the_order_of_its_keys(pte):
    entries = {"b": (b"22", 16), "a": (b"1" * 20, 32), "c": (b"22", 16)}
    parsed = read(pte)
    parsed.named_data = named_data(entries)
    found = read(write(parsed, delegate_segments=True)).named_data
    assert list(found.pte_data) == ["a", "b", "c"]
    for key, entry in found.pte_data.items():
        assert bytes(found.buffers[entry.buffer_index]) == entries[key][0]
    turned = dict(reversed(entries.items()))
    assert named_data(turned) == named_data(entries)
