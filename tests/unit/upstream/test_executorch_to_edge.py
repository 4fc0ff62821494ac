"""Protects that a program is decomposed as by ``to_edge``, and not traced again for nothing."""

import inspect

import pytest
import torch
from executorch.exir import to_edge as upstreams
from executorch.exir.graph_module import contains_any_call_fn_target_op
from executorch.exir.program import _program
from pte_foundry.bench.equality import calls
from pte_foundry.upstream.executorch_edge_config import preserving
from pte_foundry.upstream.executorch_to_edge import to_edge
from torch import nn
from torch.export import ExportedProgram

from tests.unit.upstream.source_digest import assert_source_digest

HARDSWISH = torch.ops.aten.hardswish.default


class Choice(nn.Module):
    """Graphs inside of a graph, with an operator to decompose in one of them alone."""

    def forward(self, x):
        return torch.cond(x.sum() > 0, nn.functional.hardswish, torch.cos, (x,))


@pytest.fixture
def traced(monkeypatch):
    """The tables of all decompositions that run."""
    tables = []
    upstream = ExportedProgram.run_decompositions

    def run_decompositions(program, table=None):
        tables.append(table)
        return upstream(program, table)

    monkeypatch.setattr(ExportedProgram, "run_decompositions", run_decompositions)
    return tables


def functional(network):
    return torch.export.export(network, (torch.ones(1, 4),)).run_decompositions({})


@pytest.mark.parametrize("preserved", [[], [HARDSWISH]], ids=["decomposed", "preserved"])
@pytest.mark.parametrize("network", [nn.Hardswish, Choice])
def test_the_edge_program_is_upstreams(network, preserved):
    theirs = upstreams(functional(network()), compile_config=preserving(preserved))
    ours = to_edge(functional(network()), preserved)
    assert calls(ours) == calls(theirs.exported_program())
    assert ours.graph_module.code == theirs.exported_program().graph_module.code


def test_a_program_is_traced_again_only_to_decompose_an_operator(traced):
    program = functional(nn.Hardswish())
    traced.clear()
    to_edge(program, [HARDSWISH])
    assert not traced
    to_edge(program, [])
    assert len(traced) == 1
    assert HARDSWISH in traced[0]


def test_an_operator_in_a_nested_graph_counts(traced):
    program = functional(Choice())
    assert contains_any_call_fn_target_op(program.graph_module, {HARDSWISH})
    traced.clear()
    to_edge(program, [])
    assert traced


def test_upstream_traces_again_for_nothing(traced):
    """If this fails, upstream skips it: call its ``to_edge``."""
    program = functional(nn.Hardswish())
    traced.clear()
    upstreams(program, compile_config=preserving([HARDSWISH]))
    assert traced


@pytest.mark.parametrize(
    ("function", "digest"),
    [
        (
            inspect.getclosurevars(upstreams).nonlocals["func"],
            "87208ac22123c526d364f3dc737b4576e152d167e7e37ddfd8356ceea81cf347",
        ),
        (
            _program._generate_edge_program,
            "231b0ef63ff582cb23b588963ff3e18d488ff0b53ee7dcf91c1a8f873af910b3",
        ),
        (
            _program._default_decomposition_table,
            "e59f18ff03bf06dc314a23184ae462c828466fa461627965c3f5b84e31c9cc6b",
        ),
        (
            _program._gen_edge_manager_for_partitioners,
            "14a2b38bd338a21515eb7169fcc503dba66d11d1a981585dc05c923e8817534c",
        ),
    ],
    ids=["to_edge", "edge program", "table", "to_edge_transform_and_lower"],
)
def test_upstream_is_what_was_read(function, digest):
    check = (
        "Do `to_edge` and `to_edge_transform_and_lower` still decompose in the way of `to_edge` "
        "here and of `lowering.edge_program.make`?"
    )
    assert_source_digest(function, digest, check)


def test_core_ml_transforms_nothing_before_the_decomposition():
    """Else ``lowering.edge_program.make`` must call it, as ``to_edge_transform_and_lower`` does."""
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner
    from executorch.exir.backend.partitioner import Partitioner

    upstream = Partitioner.transform_for_pre_decomposition
    assert CoreMLPartitioner.transform_for_pre_decomposition is upstream
