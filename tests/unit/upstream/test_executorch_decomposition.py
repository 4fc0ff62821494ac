"""Protects that a decomposition is skipped only if it would change nothing."""

import inspect

import pytest
import torch
from executorch.exir import to_edge
from pte_foundry.upstream.executorch_decomposition import decompose_if_needed
from pte_foundry.upstream.executorch_edge_config import preserving
from torch import nn
from torch.export import ExportedProgram

from tests.unit.upstream.source_digest import assert_source_digest


class Choice(nn.Module):
    """Graphs inside of a graph."""

    def forward(self, x):
        return torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,))


@pytest.fixture
def functional():
    return torch.export.export(nn.Hardswish(), (torch.zeros(1, 4),)).run_decompositions({})


def test_a_program_without_such_operators_is_returned_as_it_is(functional):
    decompose_if_needed(functional)
    assert functional.run_decompositions({}) is functional
    assert functional.run_decompositions({torch.ops.aten.relu.default: None}) is functional


def test_a_program_with_one_is_decomposed(functional):
    table = torch.export.default_decompositions()
    assert torch.ops.aten.hardswish.default in table
    decompose_if_needed(functional)
    decomposed = functional.run_decompositions(table)
    targets = {node.target for node in decomposed.graph.nodes}
    assert decomposed is not functional
    assert torch.ops.aten.hardswish.default not in targets


def test_a_program_with_nested_graphs_is_decomposed():
    program = torch.export.export(Choice(), (torch.ones(2, 3),)).run_decompositions({})
    decompose_if_needed(program)
    assert program.run_decompositions({}) is not program


def test_upstream_decomposes_for_nothing(functional, monkeypatch):
    """If this fails, upstream skips it: remove decompose_if_needed."""
    traced = []
    upstream = ExportedProgram.run_decompositions
    monkeypatch.setattr(
        ExportedProgram,
        "run_decompositions",
        lambda *arguments: traced.append(1) or upstream(*arguments),
    )
    to_edge(functional, compile_config=preserving([torch.ops.aten.hardswish.default]))
    assert traced


def test_upstream_is_what_was_read():
    check = "Does it still decompose by `program.run_decompositions(table)`, and that once?"
    undecorated = inspect.getclosurevars(to_edge).nonlocals["func"]
    assert_source_digest(
        undecorated, "87208ac22123c526d364f3dc737b4576e152d167e7e37ddfd8356ceea81cf347", check
    )
